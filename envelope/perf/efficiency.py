"""Choosing the constants of an operator: the device's own, else its family's, else the last resort."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from envelope.provenance import Evidence
from envelope.spec.efficiency import EfficiencyFamily
from envelope.spec.engine import Engine
from envelope.spec.hardware import EfficiencyCurve, HardwareProfile
from envelope.spec.load import ids, load
from envelope.spec.number_format import NumberFormat

PEAK_LADDER: Mapping[str, tuple[str, ...]] = {
    "bf16": ("fp16", "tf32", "fp32"),
    "fp16": ("bf16", "tf32", "fp32"),
    "fp16_fp16acc": ("fp16", "bf16", "tf32", "fp32"),
    "tf32": ("fp32", "bf16", "fp16"),
    "fp32": ("tf32", "bf16", "fp16"),
    "fp8": ("bf16", "fp16", "fp32"),
    "int8": ("fp8", "fp16", "bf16", "fp32"),
    "nvfp4": ("mxfp4", "fp4", "fp8", "bf16", "fp16", "fp32"),
    "mxfp4": ("nvfp4", "fp4", "fp8", "bf16", "fp16", "fp32"),
    "fp4": ("nvfp4", "mxfp4", "fp8", "bf16", "fp16", "fp32"),
    "fp6": ("fp8", "bf16", "fp16", "fp32"),
    "int4": ("int8", "fp8", "fp16", "bf16", "fp32"),
}
"""Matrix unit used instead when a device lacks one: the operands are widened, so the next wider unit serves."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Constants of one operator and where they came from."""

    form: str
    constants: Mapping[str, float]
    peak: str | None
    evidence: Evidence
    origin: str
    """Profile or family that holds them."""

    def __getitem__(self, name: str) -> float:
        """Return a constant, 0 if the form was fitted without it."""
        return self.constants.get(name, 0.0)

    def slowed(self, scale: float) -> "Chosen":
        """Return the constants under which every kernel takes ``scale`` times as long.

        Times and costs per byte grow by the scale, rates and shares of the peak shrink by it; what describes a shape
        stays.
        """
        scaled = {name: value * scale ** _direction(name) for name, value in self.constants.items()}
        return replace(self, constants=scaled)


_TIMES = ("t0_s", "pair_s", "unit_s", "log_s", "q_act", "route")
_RATES = ("eff_", "bus_", "core_bytes_per_s", "flop_per_j")


def _direction(constant: str) -> int:
    """Return 1 for a time, −1 for a rate and 0 for what describes a shape (first letters of the name)."""
    return int(constant.startswith(_TIMES)) - int(constant.startswith(_RATES))


def peak_flop_per_s(hardware: HardwareProfile, key: str) -> tuple[float, str]:
    """Return the peak of a matrix unit and the key it was found under (a wider one if the device lacks it)."""
    peaks = hardware.peak_flop_per_s
    for name in (key, *PEAK_LADDER.get(key, ("bf16", "fp16", "fp32"))):
        if name in peaks:
            return peaks[name], name
    name = max(peaks, key=lambda k: peaks[k])
    return peaks[name], name


def format_keys(number_format: NumberFormat) -> tuple[str, ...]:
    """Return the names under which curves for a format are sought, most specific first.

    >>> from envelope.provenance import Source
    >>> f = NumberFormat(id="int4-awq", name="AWQ", family="int", bits_per_weight=4.25, compute="fp16",
    ...                  sources={"default": Source(source="test", date="2026")})
    >>> format_keys(f)
    ('int4_awq', 'int4_wo', 'fp16', 'bf16', 'any')
    """
    keys = [number_format.id.replace("-", "_")]
    if number_format.bits_per_weight < 0.9 * number_format.activation_bits:
        keys.append(f"int{_width(number_format.bits_per_weight)}_wo")
    keys.append(number_format.compute)
    keys.extend(k for k in ("bf16",) if number_format.compute == "fp16")
    return tuple(dict.fromkeys([*keys, "any"]))


def _width(bits: float) -> int:
    return 4 if bits < 6 else 8


def pick(hardware: HardwareProfile, engine: Engine, op: str, keys: tuple[str, ...]) -> Chosen:
    """Return the constants of ``op``: profile, then family, then parents; at each level the closest format.

    Within a level the number format decides first, then the engine (its own family of kernels, then its
    fallbacks).
    """
    engines = (engine.efficiency_family, *engine.efficiency_fallbacks)
    for origin, curves in _levels(hardware):
        best = _best(curves, op, keys, engines)
        if best is not None:
            return Chosen(best.form, best.constants, best.peak, best.evidence, origin)
    raise LookupError(f"no constants for {op} on {hardware.id}: its architecture reaches no generic family")


def unmeasured(hardware: HardwareProfile, engine: Engine, needs: Iterable[tuple[str, NumberFormat]]) -> list[str]:
    """Return which of the needed operators an interrupted probe left out; nothing for any other profile.

    Constants of the device's family must not stand in for them unnoticed: the profile would then mix measurements of
    this machine with those of others. An engine of which the profile measured nothing is not concerned.
    """
    engines = (engine.efficiency_family, *engine.efficiency_fallbacks)
    interrupted = hardware.conditions is not None and not hardware.conditions.complete
    if not interrupted or not any(curve.engine in engines for curve in hardware.efficiency):
        return []
    missing = (
        f"{op} of {number_format.name}"
        for op, number_format in needs
        if _best(hardware.efficiency, op, format_keys(number_format), engines) is None
    )
    return list(dict.fromkeys(missing))


def _best(
    curves: tuple[EfficiencyCurve, ...], op: str, keys: tuple[str, ...], engines: tuple[str, ...]
) -> EfficiencyCurve | None:
    def rank(curve: EfficiencyCurve) -> tuple[int, int]:
        return keys.index(curve.number_format), engines.index(curve.engine)

    fitting = [c for c in curves if c.op == op and c.number_format in keys and c.engine in engines]
    return min(fitting, key=rank, default=None)


def _levels(hardware: HardwareProfile) -> Iterator[tuple[str, tuple[EfficiencyCurve, ...]]]:
    """Yield profile, family of its class (``ada-consumer``, if there is one), family, ancestors, last resort."""
    yield hardware.id, hardware.efficiency
    last = "generic-cpu" if hardware.device_class == "cpu" else "generic-gpu"
    of_class = f"{hardware.architecture}-{hardware.device_class.split('_')[0]}"
    for name in (of_class, *_ancestry(hardware.architecture), last):
        family = _family(name)
        if family is not None:
            yield name, family.curves


@lru_cache(maxsize=256)
def _ancestry(name: str) -> tuple[str, ...]:
    """Return a family and its ancestors, nearest first."""
    family = _family(name)
    if family is None:
        return ()
    found = [name]
    for parent in family.inherits:
        found.extend(p for p in _ancestry(parent) if p not in found)
    return tuple(found)


def _family(name: str) -> EfficiencyFamily | None:
    if name not in ids("efficiency"):
        return None
    return load(EfficiencyFamily, "efficiency", name, file="hardware profile", path="architecture")
