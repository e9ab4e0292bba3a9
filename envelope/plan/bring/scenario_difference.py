"""What two scenarios say differently, value by value."""

from envelope.provenance import Frozen
from envelope.spec.replace import paths, value_at
from envelope.spec.scenario import Scenario


class Difference(Frozen):
    """One value that differs."""

    path: str
    before: str
    """The value in words; empty where the earlier scenario has none."""
    after: str


def differences(before: Scenario, after: Scenario) -> tuple[Difference, ...]:
    """Return every value that differs, in the order of the later scenario; what only the earlier one has comes last."""
    old, new = ({path: str(value_at(s, path)) for path in paths(s)} for s in (before, after))
    every = [*new, *(path for path in old if path not in new)]
    return tuple(
        Difference(path=path, before=old.get(path, ""), after=new.get(path, ""))
        for path in every
        if old.get(path, "") != new.get(path, "")
    )
