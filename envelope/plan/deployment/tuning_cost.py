"""Training runs: FLOPs, memory, hours, and the yearly cost of data, runs, evaluation and rollback."""

import math
from typing import TYPE_CHECKING

from envelope.errors import InputError
from envelope.money.inputs import resolve
from envelope.perf.params import adapter_params
from envelope.perf.replica import ReplicaSpec
from envelope.perf.work import operators, param_counts
from envelope.provenance import Frozen
from envelope.spec.cloud import rental_price
from envelope.spec.economic_facts import facts
from envelope.spec.economics import Economics
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load

if TYPE_CHECKING:
    from envelope.plan.deployment.tuning import Method, TuningQuery

FULL_BYTES_PER_PARAM = 16.0
"""Weights, gradients and Adam states in mixed precision: Rajbhandari et al., *ZeRO*, 2020, section 3.1."""
QLORA_BITS_PER_PARAM = 4.127
"""NF4 with double quantization, 4 + 0.127 bits: Dettmers et al., *QLoRA*, arXiv:2305.14314 (2023), section 3."""
QLORA_SLOWER = 1.39
"""Run time against LoRA: S. Raschka, *Practical Tips for Finetuning LLMs Using LoRA*, 2023 (recalled: +39 %)."""
_REFERENCE_PARAMS = 8e9
_REFERENCE_TOKENS = 1e8
_REFERENCE_DEVICE = "nvidia-h100-sxm-80gb"
_MEMORY_FRAC = 0.9


class TrainingRun(Frozen):
    """One run of one method on the profile's devices."""

    flop: float
    memory_bytes: float
    """Weights, gradients, optimiser states and the checkpointed activations of one sequence."""
    trainable_params: float
    devices: int
    """Fewest devices that hold it."""
    device_hours: float
    hours: float
    usd: float
    efficiency_frac: float
    """Share of the device's peak that published runs reach (tuned, packed sequences)."""


def training_run(query: "TuningQuery", replica: ReplicaSpec, method: "Method") -> TrainingRun:
    """Return one training run of ``method``.

    FLOPs are 6·N·T for full fine-tuning (Kaplan et al., 2020) and 4·N·T where the base weights are frozen: forward
    2, backward through the activations 2. The time is that of NVIDIA's published NeMo runs on H100, as a share of
    its peak, carried over to this device's peak of the same format.
    """
    counts = param_counts(replica.model)
    trained = counts.total if method == "full" else adapter_params(replica.model, query.rank)
    flop = (6.0 if method == "full" else 4.0) * counts.active * query.training_tokens
    memory = _memory_bytes(query, replica, method, counts.total, trained)
    device = replica.hardware.device_memory
    devices = max(1, math.ceil(memory / (device.capacity_bytes * device.usable_frac * _MEMORY_FRAC)))
    share = _efficiency_frac("ft_full_8b" if method == "full" else "ft_lora_8b", 6.0 if method == "full" else 4.0)
    device_hours = flop / (share * _peak(replica.hardware)) / 3600.0
    device_hours *= QLORA_SLOWER if method == "qlora" else 1.0
    return TrainingRun(
        flop=flop,
        memory_bytes=memory,
        trainable_params=trained,
        devices=devices,
        device_hours=device_hours,
        hours=device_hours / devices,
        usd=device_hours * 3600.0 * device_usd_per_s(query.hardware),
        efficiency_frac=share,
    )


def _memory_bytes(query: "TuningQuery", replica: ReplicaSpec, method: "Method", total: float, trained: float) -> float:
    """Return weights and training states, and the inputs of all layers for one sequence (checkpointing, bf16)."""
    activations = query.sequence_tokens * replica.model.hidden * operators(replica.model).layers * 2.0
    frozen = {"full": 0.0, "lora": 2.0 * total, "qlora": QLORA_BITS_PER_PARAM / 8.0 * total}[method]
    return frozen + FULL_BYTES_PER_PARAM * trained + activations


def _efficiency_frac(default: str, flop_per_param: float) -> float:
    hours = facts().defaults[default].value
    hardware = load(HardwareProfile, "hardware_profiles", _REFERENCE_DEVICE, file="tuning", path="reference")
    return flop_per_param * _REFERENCE_PARAMS * _REFERENCE_TOKENS / (hours * 3600.0) / _peak(hardware)


def _peak(hardware: HardwareProfile) -> float:
    """Return the peak that training reaches for: fp8 where the device has it, as in the published runs, else bf16."""
    peaks = hardware.peak_flop_per_s
    return next((peaks[n] for n in ("fp8", "bf16", "fp16", "fp32") if n in peaks), max(peaks.values()))


def device_usd_per_s(hardware: str) -> float:
    """Return the price of one second of a device: its rent on demand, else that of an H100."""
    name = load(HardwareProfile, "hardware_profiles", hardware, file="arguments", path="hardware").id
    try:
        return rental_price(name, "on_demand", file="tuning", path="hardware").point / 3600.0
    except InputError:
        return facts().defaults["gpu_hour"].value / 3600.0


def yearly_usd(query: "TuningQuery", run: TrainingRun) -> dict[str, float]:
    """Return the yearly cost of a trained behaviour: data, runs, evaluation and rollback drills.

    Runs count with ``ft_trials``, since most are thrown away. At least one release a year is counted in the first.
    """
    known = _known(query.region)
    releases = max(query.changes_per_year, 1.0)
    day = known["staff_ml"] / known["working_days_per_year"]
    many = query.behaviours
    return {
        "data": known["labelled_items"] * known["labelling_item"] * many,
        "runs": run.usd * known["ft_trials"] * releases * many,
        "evaluation": known["eval_run_small"] * known["ft_trials"] * releases * many,
        "rollback drills": known["drill_effort"] * day * releases,
    }


def retrieval_usd_per_year(query: "TuningQuery") -> dict[str, float]:
    """Return the yearly upkeep of an index: a day of work for each change, and its evaluation."""
    known = _known(query.region)
    day = known["staff_ml"] / known["working_days_per_year"]
    changes = max(query.changes_per_year, 1.0)
    return {"upkeep of the index": day * min(changes, 52.0), "evaluation": known["eval_run_small"] * changes}


def _known(region: str) -> dict[str, float]:
    """Return the catalog's defaults at the middle of their ranges, in dollars, with a region's staff and power."""
    return {name: item.point for name, item in resolve(Economics(region=region)).items()}
