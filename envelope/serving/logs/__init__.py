"""Reading request logs of gateways, engines and agents, describing them and fitting a synthetic twin."""

from envelope.serving.logs.describe import TraceDescription, describe
from envelope.serving.logs.detect import READERS, detect, read_log
from envelope.serving.logs.trace import Trace, requests_of
from envelope.serving.logs.twin import fit_twin
from envelope.serving.logs.usage import Usage, workload_of_usage

__all__ = [
    "READERS",
    "Trace",
    "TraceDescription",
    "Usage",
    "describe",
    "detect",
    "fit_twin",
    "read_log",
    "requests_of",
    "workload_of_usage",
]
