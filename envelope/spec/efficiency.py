"""Efficiency families: operator constants that profiles without measurements of their own inherit."""

from envelope.provenance import Sourced
from envelope.spec.hardware import EfficiencyCurve


class EfficiencyFamily(Sourced):
    """Constants shared by devices of one architecture, or by everything (the last resort)."""

    id: str
    name: str
    inherits: tuple[str, ...] = ()
    """Families asked next, in order, for an operator that this one does not hold."""
    curves: tuple[EfficiencyCurve, ...] = ()
    note: str = ""
