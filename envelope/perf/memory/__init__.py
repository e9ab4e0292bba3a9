"""What stands in the memory of each device: weights, working set, and the cache as the engine hands it out."""

from envelope.perf.memory.cache import CachePlan, cache_plan
from envelope.perf.memory.fit import DomainFit, MemoryFit, fit
from envelope.perf.memory.offload import offload_fracs
from envelope.perf.memory.weights import device_weight_bytes

__all__ = ["CachePlan", "DomainFit", "MemoryFit", "cache_plan", "device_weight_bytes", "fit", "offload_fracs"]
