"""Watts of the processor or the whole machine, from whichever counter is readable; often none is."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_W_PER_CORE = 6.0
"""Median of package limit per core over the 63 CPU profiles of this project (P10 3.5, P90 13)."""
_IDLE_SHARE = 0.25
"""Idle over limit, the rule of the project's CPU profiles."""


@dataclass(frozen=True, slots=True)
class PowerReading:
    """Idle and loaded watts."""

    idle_w: float
    loaded_w: float
    measured: bool
    source: str


def read_power(busy: Callable[[], object], *, root: Path = Path("/"), seconds: float = 1.0) -> PowerReading | None:
    """Return watts at rest and while ``busy`` runs over and over, or ``None`` if no counter is readable."""
    meter = _rapl(root) or _battery(root)
    if meter is None:
        return None
    name, watts = meter
    idle = watts(seconds)
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            busy()

    worker = threading.Thread(target=load, daemon=True)
    worker.start()
    try:
        loaded = watts(seconds)
    finally:
        stop.set()
        worker.join()
    return PowerReading(max(idle, 0.0), max(loaded, idle, 1e-3), measured=True, source=name)


def assumed_power(cores: float) -> PowerReading:
    """Return what CPUs of this many cores usually take: 6 W per core at the limit, a quarter of it idle."""
    limit = max(_W_PER_CORE * cores, 5.0)
    text = "no readable power counter; rule: 6 W per core (median of this project's CPU profiles), a quarter idle"
    return PowerReading(_IDLE_SHARE * limit, limit, measured=False, source=text)


Watts = Callable[[float], float]


def _rapl(root: Path) -> tuple[str, Watts] | None:
    """Return a meter over Intel's and AMD's package energy counters; most systems let only root read them."""
    packages = sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*"))
    counters = [p / "energy_uj" for p in packages if p.name.count(":") == 1 and _number(p / "energy_uj") is not None]
    if not counters:
        return None

    def watts(seconds: float) -> float:
        first, start = [_number(c) or 0.0 for c in counters], time.perf_counter()
        time.sleep(seconds)
        span = time.perf_counter() - start
        total = 0.0
        for counter, before in zip(counters, first, strict=True):
            step = (_number(counter) or 0.0) - before
            # The counter wraps round at its range.
            total += step if step >= 0 else step + (_number(counter.parent / "max_energy_range_uj") or 0.0)
        return total * 1e-6 / span

    return "RAPL package energy", watts


def _battery(root: Path) -> tuple[str, Watts] | None:
    """Return a meter over a discharging battery, which sees the whole machine."""
    for supply in sorted((root / "sys/class/power_supply").glob("BAT*")):
        if _text(supply / "status").strip() != "Discharging":
            continue
        if _battery_w(supply) is not None:
            return "battery gauge (whole machine)", partial(_mean_battery_w, supply)
    return None


def _mean_battery_w(supply: Path, seconds: float) -> float:
    readings = []
    for _ in range(5):
        time.sleep(seconds / 5)
        readings.append(_battery_w(supply) or 0.0)
    return sum(readings) / len(readings)


def _battery_w(supply: Path) -> float | None:
    power = _number(supply / "power_now")
    if power is not None:
        return power * 1e-6
    current, voltage = _number(supply / "current_now"), _number(supply / "voltage_now")
    return current * voltage * 1e-12 if current is not None and voltage is not None else None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
