"""From the processor's measurements to a hardware profile."""

import datetime
import re
import statistics
from collections.abc import Iterator
from typing import Final

import numpy as np

from envelope.perf import cpu_probe
from envelope.processor import processor_flags, processor_name
from envelope.provenance import Evidence, Source
from envelope.sensors import conditions, roofline_fit, tables
from envelope.sensors.cores import memory_limit_bytes
from envelope.sensors.cpu import CpuMeasured, disturbed
from envelope.sensors.experts import EXPERT_FORMATS
from envelope.sensors.gemm import FORMATS
from envelope.sensors.power import PowerReading
from envelope.sensors.storage import StorageTime
from envelope.sensors.tables import Fit
from envelope.sensors.timing import median_spread
from envelope.spec.hardware import (
    Conditions,
    EfficiencyCurve,
    HardwareProfile,
    MemoryDomain,
    Power,
    Storage,
)

ENGINE: Final = "onnxruntime"
"""Engine id under which the constants are stored: they are those of its kernels."""


def architecture(flags: frozenset[str], machine: str) -> str:
    """Return the efficiency family of a processor by its instruction sets.

    >>> architecture(frozenset({"avx2", "fma"}), "x86_64")
    'x86-avx2'
    """
    if "arm64" in machine or "aarch64" in machine:
        return "arm-neoverse" if {"sve", "i8mm"} & flags else "arm-cortex"
    ladder = (("amx_tile", "x86-amx"), ("avx512f", "x86-avx512"), ("avx2", "x86-avx2"), ("sse2", "x86-sse"))
    return next((family for flag, family in ladder if flag in flags), "generic-cpu")


def default_id(found: CpuMeasured) -> str:
    """Return an id made of the processor's name, its cores and its memory, such as ``amd-ryzen-9950x-16c-64gb``."""
    name = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*$|\d+-core", " ", processor_name().lower())
    slug = re.sub(r"[^a-z0-9.]+", "-", name).strip("-") or "machine"
    gigabytes = round(memory_limit_bytes() / 1e9)
    return f"{slug}-{found.limit.threads}c-{gigabytes}gb"


def cpu_profile(
    found: CpuMeasured, ident: str, *, power: PowerReading, storage: StorageTime | str | None = None
) -> HardwareProfile:
    """Return the profile of this machine as a ``cpu`` device; every measured number says so."""
    import platform

    processor = processor_name()
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    text = f"envelope probe, {found.plan.mode}, on {processor} with {found.limit.threads} threads"
    bandwidth, peaks = _bandwidth(found), _peaks(found)
    watts = Evidence.MEASURED if power.measured else Evidence.ASSUMED
    return HardwareProfile(
        id=ident,
        name=conditions.probed_name(processor, found.limit.threads),
        vendor=processor.split()[0].replace("(R)", ""),
        device_class="cpu",
        architecture=architecture(processor_flags(), platform.machine()),
        memory=(
            MemoryDomain(
                name="device", kind="DRAM", capacity_bytes=memory_limit_bytes(), bandwidth_bytes_per_s=bandwidth,
                unified=True, usable_frac=0.9,
            ),
        ),
        peak_flop_per_s=peaks,
        units=found.limit.threads,
        cache_bytes=conditions.last_level_cache_bytes(),
        power=Power(max_w=power.loaded_w, idle_w=power.idle_w, evidence_idle=watts),
        efficiency=tuple(_curves(found, text, today, peaks, bandwidth)),
        storage=_storage(storage),
        conditions=_conditions(found, today, storage),
        sources={
            "default": Source(source=text, date=today, evidence=Evidence.MEASURED),
            "power": Source(source=power.source, date=today, evidence=watts),
            "memory.usable_frac": Source(
                source="rule of this project: a tenth of a computer's memory stays with the system", date=today,
                evidence=Evidence.ASSUMED,
            ),
            "cache_bytes": Source(source="reported by the operating system", date=today),
        },
    )  # fmt: skip


def _bandwidth(found: CpuMeasured) -> float:
    """Return the fastest read seen: no operator may beat the profile's bandwidth."""
    rates = [p.moved_bytes / p.sample.best_s for p in found.bandwidth if p.kernel == "read"]
    for key, times in found.linear.items():
        rates += [t.weights * FORMATS[key].bytes_per_weight / t.sample.best_s for t in times if t.rows <= 8]
    return max(rates)


def _peaks(found: CpuMeasured) -> dict[str, float]:
    """Return the best rate of each matrix unit; formats with 8-bit activations count as int8."""
    peaks: dict[str, float] = {}
    for key, times in found.linear.items():
        unit = _unit(key)
        peaks[unit] = max(peaks.get(unit, 0.0), *(t.flop_per_s for t in times))
    return peaks


def _unit(key: str) -> str:
    return "fp32" if key in ("fp32", "int4_wo_f32") else "int8"


def _curves(
    found: CpuMeasured, text: str, today: str, peaks: dict[str, float], bandwidth: float
) -> Iterator[EfficiencyCurve]:
    for op, key, form, fit, peak in _fits(found, peaks, bandwidth):
        yield EfficiencyCurve(
            op=op, number_format=key, engine=ENGINE, form=form, constants=_rounded(fit.constants), peak=peak,
            error_median_frac=_round(fit.error_median_frac), rows=fit.rows, spread_frac=_round(fit.spread_frac),
            evidence=Evidence.MEASURED, source=text, date=today,
        )  # fmt: skip


FitRow = tuple[str, str, str, Fit, str | None]


def _fits(found: CpuMeasured, peaks: dict[str, float], bandwidth: float) -> Iterator[FitRow]:
    """Yield operator, number format, form, constants and peak key of every curve that the measurements allow."""
    yield "table", "any", cpu_probe.BANDWIDTH, _bandwidth_fit(found), None
    for key, times in found.linear.items():
        yield "table", key, cpu_probe.LINEAR, tables.linear_table(times), None
        if key in found.plan.formats:
            yield "gemm", key, "gemm", _with_core_rate(found, key, peaks, bandwidth), _unit(key)
    if found.call is not None and found.elementwise:
        table = tables.elementwise_table(found.elementwise, found.call)
        yield "table", "fp32", cpu_probe.ELEMENTWISE, table, None
        yield "elementwise", "any", "elementwise", roofline_fit.elementwise_curve(found.elementwise, bandwidth), None
    yield from _attention_fits(found, peaks)
    for key, experts in found.experts.items():
        yield "table", key, cpu_probe.EXPERTS, tables.experts_table(experts), None
        unit = _unit(key)
        if unit in peaks:
            fit = roofline_fit.moe_curve(experts, EXPERT_FORMATS[key], peaks[unit], bandwidth)
            yield "moe", key, "moe", fit, unit


def _attention_fits(found: CpuMeasured, peaks: dict[str, float]) -> Iterator[FitRow]:
    if found.decode:
        table = tables.decode_attention_table(found.decode)
        smooth = roofline_fit.decode_attention_curve(found.decode, peaks["fp32"], found.limit.threads, table)
        yield "table", "fp32", cpu_probe.DECODE_ATTENTION, table, None
        yield "decode_attention", "any", "attention_decode", smooth, "fp32"
    if found.prefill:
        yield "table", "fp32", cpu_probe.PREFILL_ATTENTION, tables.prefill_attention_table(found.prefill), None
        smooth = roofline_fit.prefill_attention_curve(found.prefill, peaks["fp32"])
        yield "prefill_attention", "any", "attention_prefill", smooth, "fp32"


def _with_core_rate(found: CpuMeasured, key: str, peaks: dict[str, float], bandwidth: float) -> Fit:
    """Return the smooth constants with the bytes per second that one core's kernel reads alone."""
    stored = FORMATS[key].bytes_per_weight
    fit = roofline_fit.gemm_curve(found.linear[key], stored, peaks[_unit(key)], bandwidth)
    single = found.single.get(key)
    if single is None:
        return fit
    constants = dict(fit.constants)
    # Threads share the memory, so the rate of all is fitted (eff_b); one core's own rate bounds fewer threads.
    rate = single.weights * stored / single.sample.median_s
    constants["core_bytes_per_s"] = max(rate, bandwidth * constants["eff_b"] / found.limit.threads)
    return Fit(constants, fit.error_median_frac, fit.rows, fit.spread_frac)


def _bandwidth_fit(found: CpuMeasured) -> Fit:
    constants = {f"{p.kernel}_{p.threads}": p.bytes_per_s for p in found.bandwidth}
    if found.reads:
        # Seen all through the probe, not in its first seconds only.
        constants[f"read_{found.limit.threads}"] = statistics.median(found.reads)
    return Fit(constants, None, len(constants), median_spread(p.sample for p in found.bandwidth))


def _storage(found: StorageTime | str | None) -> Storage | None:
    if not isinstance(found, StorageTime) or found.cold is None:
        return None
    return Storage(
        cold_read_bytes_per_s=_four_digits(found.read_bytes / found.cold.best_s),
        warm_read_bytes_per_s=_four_digits(found.read_bytes / found.warm.best_s),
        spread_frac=_four_digits(found.cold.spread_frac),
        note=found.note,
    )


def _conditions(found: CpuMeasured, today: str, storage: StorageTime | str | None) -> Conditions:
    noted = [*conditions.warnings_of_environment(), *(f"disturbed: {text}" for text in disturbed(found))]
    noted += [f"{name} products: {text} by ONNX Runtime" for name, text in found.support.items() if text != "native"]
    noted += [storage] if isinstance(storage, str) else []
    noise = found.noise
    return Conditions(
        date=today,
        mode=found.plan.mode,
        complete=found.complete,
        cores_allowed=found.limit.cores,
        cores_limited_by=found.limit.limited_by,
        cores_online=found.limit.online,
        memory_limit_bytes=memory_limit_bytes(),
        load_1min=conditions.load_1min(),
        foreign_cpu_frac=_round(noise.foreign_frac) if noise else None,
        steal_cpu_frac=_round(noise.steal_frac) if noise else None,
        memory_swing_frac=_round(_swing(found.reads)),
        clock_hz=conditions.clock_hz(),
        temperature_c=conditions.temperature_c(),
        blas=conditions.blas_text(),
        versions=conditions.library_versions(),
        warnings=tuple(noted),
    )


def _swing(rates: list[float]) -> float | None:
    if len(rates) < 5:
        return None
    low, middle, high = np.quantile(rates, (0.1, 0.5, 0.9))
    return float((high - low) / middle)


def _rounded(constants: dict[str, float]) -> dict[str, float]:
    return {name: _four_digits(value) for name, value in constants.items()}


def _four_digits(value: float) -> float:
    return float(f"{value:.5g}")


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
