"""Finding and loading scenarios."""

from pathlib import Path

from envelope.errors import InputError, Problem, unknown_name
from envelope.spec import load
from envelope.spec.scenario import Scenario

_KIND = "scenarios"


def find_scenario(name: str | Path) -> Path:
    """Return the file of a scenario given as a path or as the id of a known one.

    Raises ``InputError`` for a path that does not exist and for an unknown id.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(Problem(str(name), "", None, "is a folder, not a scenario file"))
    # Packaged scenarios answer to `scenarios/x.yaml` and `x.yaml` too, so that the README works from any folder.
    ident = path.stem if path.suffix in {".yaml", ".yml"} and str(path.parent) in {".", _KIND} else str(name)
    if ident in load.ids(_KIND):
        return load.path_of(_KIND, ident)
    if path.suffix:
        load.read_yaml(path)
    raise unknown_name("command line", "scenario", str(name), load.ids(_KIND), _KIND)


def load_scenario(name: str | Path) -> Scenario:
    """Return a scenario by path or id.

    Raises ``InputError`` with every problem found in the file.
    """
    path = find_scenario(name)
    data = load.read_yaml(path)
    return load.validate(Scenario, data, str(path))


def list_scenarios() -> list[tuple[Scenario, Path]]:
    """Return the known scenarios with their files, sorted by id."""
    return [(load_scenario(load.path_of(_KIND, i)), load.path_of(_KIND, i)) for i in load.ids(_KIND)]
