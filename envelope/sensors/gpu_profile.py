"""From the GPU's facts and timed kernels to a hardware profile."""

import datetime
import re
from collections.abc import Iterator

import numpy as np
from scipy.optimize import nnls

from envelope.provenance import Evidence, Source
from envelope.sensors import conditions, roofline_fit
from envelope.sensors.cores import core_limit, memory_limit_bytes
from envelope.sensors.gpu import GpuFacts
from envelope.sensors.gpu_measure import FORMATS, GpuAttention, GpuMeasured
from envelope.sensors.tables import Fit
from envelope.sensors.timing import median_spread
from envelope.spec.hardware import (
    Conditions,
    DeviceClass,
    EfficiencyCurve,
    HardwareProfile,
    Link,
    MemoryDomain,
    Power,
)

_FAMILIES = {"6.0": "pascal", "6.1": "pascal", "7.0": "volta", "7.5": "turing", "8.0": "ampere", "8.6": "ampere-ga10x",
             "8.7": "ampere-ga10x", "8.9": "ada", "9.0": "hopper", "10.0": "blackwell", "10.3": "blackwell",
             "11.0": "blackwell-thor", "12.0": "blackwell-gb20x", "12.1": "blackwell-gb10"}  # fmt: skip
"""Compute capability → efficiency family."""


def gpu_id(facts: GpuFacts) -> str:
    """Return an id such as ``nvidia-h100-80gb-hbm3-probed``."""
    slug = re.sub(r"[^a-z0-9]+", "-", facts.name.lower()).strip("-")
    return f"{slug}-probed" if slug.startswith("nvidia") else f"nvidia-{slug}-probed"


def gpu_profile(
    facts: GpuFacts, found: GpuMeasured, ident: str, *, idle_w: float | None, loaded_w: float | None
) -> HardwareProfile:
    """Return the profile of one GPU."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    text = f"envelope probe, {found.plan.mode}, on {facts.name} through {found.backend}, driver {facts.driver}"
    bandwidth = max(found.read_bytes_per_s)
    peaks = {key: max(t.flop_per_s for t in times) for key, times in found.linear.items()}
    limit = facts.power_limit_w or loaded_w or 300.0
    return HardwareProfile(
        id=ident,
        name=conditions.probed_name(facts.name),
        vendor="NVIDIA",
        device_class=_device_class(facts.name),
        architecture=_FAMILIES.get(facts.architecture, "nvidia"),
        memory=(
            MemoryDomain(
                name="device", kind="GPU memory", bandwidth_bytes_per_s=bandwidth,
                capacity_bytes=min(facts.memory_bytes, found.memory_bytes or facts.memory_bytes),
            ),
            MemoryDomain(
                name="host", kind="DRAM", capacity_bytes=memory_limit_bytes(),
                bandwidth_bytes_per_s=max(found.host_bytes_per_s.values(), default=1e10),
            ),
        ),
        links=tuple(_links(facts, found)),
        peak_flop_per_s=peaks,
        units=found.units,
        power=Power(max_w=limit, idle_w=idle_w if idle_w is not None else 0.15 * limit),
        efficiency=tuple(_curves(found, text, today, peaks, bandwidth, found.units or 100)),
        conditions=_conditions(facts, found, today),
        sources={
            "default": Source(source=text, date=today, evidence=Evidence.MEASURED),
            "power": Source(
                source=f"NVML enforced limit and idle reading; loaded with products: {_watts(loaded_w)}", date=today,
                evidence=Evidence.MEASURED if idle_w is not None else Evidence.ASSUMED,
            ),
        },
    )  # fmt: skip


def _watts(value: float | None) -> str:
    return "not readable" if value is None else f"{value:.0f} W"


def _device_class(name: str) -> DeviceClass:
    lower = name.lower()
    if "geforce" in lower or "titan" in lower:
        return "consumer_gpu"
    if "rtx" in lower or "quadro" in lower:
        return "workstation_gpu"
    if "jetson" in lower or "orin" in lower or "thor" in lower:
        return "edge"
    return "datacenter_gpu"


def _links(facts: GpuFacts, found: GpuMeasured) -> Iterator[Link]:
    if found.peer_bytes_per_s:
        slowest, fastest = min(found.peer_bytes_per_s.values()), max(found.peer_bytes_per_s.values())
        note = f"copies to {len(found.peer_bytes_per_s)} other GPUs, the slowest; fastest {fastest / 1e9:.0f} GB/s; "
        note += f"{facts.nvlinks} NVLinks; joined by {', '.join(dict.fromkeys(n for n in facts.near if n != 'self'))}"
        yield Link(
            kind="nvlink" if facts.nvlinks else "pcie", bandwidth_bytes_per_s=slowest, note=note,
            peers=len(found.peer_bytes_per_s) + 1,
        )  # fmt: skip
    if found.host_bytes_per_s:
        slower = min(found.host_bytes_per_s.values())
        note = f"pinned copies; PCIe generation {facts.pcie_generation}, {facts.pcie_lanes} lanes"
        yield Link(kind="pcie", bandwidth_bytes_per_s=slower, note=note)


def _curves(
    found: GpuMeasured, text: str, today: str, peaks: dict[str, float], bandwidth: float, units: int
) -> Iterator[EfficiencyCurve]:
    for op, key, form, fit in _fits(found, peaks, bandwidth, units):
        yield EfficiencyCurve(
            op=op, number_format=key, engine="any", form=form, constants=fit.constants, rows=fit.rows,
            error_median_frac=fit.error_median_frac, spread_frac=fit.spread_frac, evidence=Evidence.MEASURED,
            source=text, date=today,
        )  # fmt: skip


def _fits(
    found: GpuMeasured, peaks: dict[str, float], bandwidth: float, units: int
) -> Iterator[tuple[str, str, str, Fit]]:
    for key, times in found.linear.items():
        yield "gemm", key, "gemm", roofline_fit.gemm_curve(times, FORMATS[key], peaks[key], bandwidth)
    decode = [a for a in found.attention if a.shape.new == 1]
    if decode:
        yield "decode_attention", "any", "attention_decode", _decode(decode, bandwidth, units)
    prefill = [a for a in found.attention if a.shape.new > 1]
    if prefill and "bf16" in peaks:
        yield "prefill_attention", "any", "attention_prefill", _prefill(prefill, peaks["bf16"])
    if found.all_reduce and found.peer_bytes_per_s:
        yield "all_reduce", "any", "all_reduce", _all_reduce(found, min(found.peer_bytes_per_s.values()))


def _decode(times: list[GpuAttention], bandwidth: float, units: int) -> Fit:
    """Return ``t0_s, pair_s, eff_b`` of t = t0 + pair_s·batch·kv_heads/units + KV bytes/(W·eff_b), by least squares.

    Reading the cache limits decode on GPUs, not arithmetic: ``eff_c`` is 1.
    """
    pairs = np.array([a.shape.batch * a.shape.kv_heads / units for a in times])
    moved = np.array([a.shape.cache_bytes for a in times])
    measured = np.array([a.layer_s for a in times])
    matrix = np.stack([np.ones(len(times)), pairs, moved / bandwidth], axis=1) / measured[:, None]
    scale = np.linalg.norm(matrix, axis=0)
    solution = np.maximum(nnls(matrix / scale, np.ones(len(times)))[0] / scale, [0.0, 0.0, 1.0])
    errors = np.abs(matrix @ solution - 1.0)
    constants = {
        "t0_s": float(solution[0]), "pair_s": float(solution[1]), "eff_b": float(1 / solution[2]), "eff_c": 1.0
    }  # fmt: skip
    return Fit(constants, float(np.median(errors)), len(times), median_spread(a.sample for a in times))


def _prefill(times: list[GpuAttention], peak: float) -> Fit:
    """Return ``t0_s, eff_c`` of causal prefill: 2 · heads · width · s² FLOP over the best rate seen."""
    rates = [2.0 * a.shape.heads * a.shape.width * a.shape.new**2 / a.layer_s for a in times]
    constants = {"t0_s": 5e-6, "eff_c": min(max(rates) / peak, 1.0), "eff_b": 0.5}
    return Fit(constants, None, len(times), median_spread(a.sample for a in times))


def _all_reduce(found: GpuMeasured, link: float) -> Fit:
    """Return ``t0_s_n, bus_n`` for each group size: time of the smallest message, bus share at the largest."""
    constants, samples = {}, []
    for devices, rows in found.all_reduce.items():
        samples += [sample for _, sample in rows]
        moved, last = rows[-1]
        constants[f"t0_s_{devices}"] = rows[0][1].best_s
        constants[f"bus_{devices}"] = 2.0 * (devices - 1) / devices * moved / last.best_s / link
    return Fit(constants, None, len(samples), median_spread(samples))


def _conditions(facts: GpuFacts, found: GpuMeasured, today: str) -> Conditions:
    limit = core_limit()
    noted = [*found.unsupported]
    noted += [f"ECC {'on' if facts.ecc else 'off'}"] if facts.ecc is not None else []
    noted += ["MIG is on: this is a slice of the device"] if facts.mig else []
    return Conditions(
        date=today, mode=found.plan.mode, complete=found.complete,
        cores_allowed=limit.cores, cores_limited_by=limit.limited_by, cores_online=limit.online,
        memory_limit_bytes=memory_limit_bytes(), load_1min=conditions.load_1min(), clock_hz=facts.sm_clock_hz,
        temperature_c=facts.temperature_c, blas=conditions.blas_text(), versions=conditions.library_versions(),
        warnings=tuple(noted),
    )  # fmt: skip
