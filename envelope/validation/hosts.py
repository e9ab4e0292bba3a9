"""Power at the wall: the devices, the computer around them and the loss of its power supply."""

from functools import cache
from pathlib import Path

from pydantic import Field

from envelope.provenance import Frozen, Source
from envelope.spec.load import validate
from envelope.spec.yaml_text import read_yaml
from envelope.validation.rows import MeasuredRow
from envelope.validation.target import Target

_FILE = Path(__file__).with_name("hosts.yaml")


class Host(Frozen):
    """A host computer with a card in it."""

    match: str
    power_w: float = Field(ge=0)
    """At its own input while the card works and the processor waits."""


class _Hosts(Frozen):
    hosts: tuple[Host, ...]
    per_device_w: dict[str, float]
    """Device class → power of the rest of the machine per device."""
    supply_efficiency_frac: float = Field(gt=0, le=1)
    source: Source


@cache
def _hosts() -> _Hosts:
    return validate(_Hosts, read_yaml(_FILE), str(_FILE))


def wall_w(devices_w: float, target: Target, row: MeasuredRow) -> float:
    """Return watts at the wall for a system whose devices draw ``devices_w``.

    (devices + host) / efficiency of the power supply; devices that are a whole computer have no host. Joule rows
    derived from wall power count like watts; those of the GPUs alone are left as they are.
    """
    if row.quantity == "energy_per_token" and "GPU" in row.unit:
        return devices_w
    known = _hosts()
    text = target.host.lower()
    host = next((h.power_w for h in known.hosts if text and h.match.lower() in text), None)
    if host is None:
        host = known.per_device_w.get(target.replica.hardware.device_class, 0.0) * target.devices
    return (devices_w + host) / known.supply_efficiency_frac
