"""Finding and loading scenarios."""

from collections.abc import Sequence
from pathlib import Path

from envelope.errors import InputError, Problem, unknown_name
from envelope.spec import load, yaml_text
from envelope.spec.evidence import EvidenceSet
from envelope.spec.model import Model
from envelope.spec.references import check_names
from envelope.spec.scenario import Candidate, Scenario

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
        yaml_text.read_yaml(path)
    raise unknown_name("command line", "scenario", str(name), load.ids(_KIND), _KIND)


def load_scenario(name: str | Path) -> Scenario:
    """Return a scenario by path or id.

    Raises ``InputError`` with every problem found in the file.
    """
    path = find_scenario(name)
    return _scenario(yaml_text.read_yaml(path), path)


def read_scenario(text: str, path: Path) -> Scenario:
    """Return the scenario in a YAML text that is to stand in the file ``path``, such as one that is being edited.

    Raises ``InputError`` with every problem found in the text.
    """
    return _scenario(yaml_text.parse_yaml(text, str(path)), path)


def _scenario(data: object, path: Path) -> Scenario:
    scenario = _with_trace(load.validate(Scenario, data, str(path)), path)
    beside = path.parent / "evidence" / f"{path.stem}.yaml"
    if beside.is_file():
        scenario = with_evidence_file(scenario, beside)
    check_names(scenario, str(path))
    return scenario


def _with_trace(scenario: Scenario, path: Path) -> Scenario:
    """Return a scenario whose recorded log, if it has one, is found from any folder.

    Raises ``InputError`` if there is no such file.
    """
    trace = scenario.workload.trace
    if trace is None:
        return scenario
    found = path.parent / trace
    if not found.exists():
        raise InputError(Problem(str(path), "workload.trace", trace, "no such file", f"looked in {path.parent}"))
    return scenario.changed(workload=scenario.workload.changed(trace=str(found)))


def with_evidence_file(scenario: Scenario, path: Path) -> Scenario:
    """Return a scenario with the records and gates of an evidence file besides its own.

    Raises ``InputError`` with every problem found in the file, unknown models included.
    """
    more = load.validate(EvidenceSet, yaml_text.read_yaml(path), str(path))
    for index, record in enumerate(more.records):
        if record.model not in load.ids("hosted"):
            load.load(Model, "models", record.model, file=str(path), path=f"records[{index}].model")
    both = more.changed(
        records=(*scenario.evidence.records, *more.records), gates=(*scenario.evidence.gates, *more.gates)
    )
    return scenario.changed(evidence=both)


def list_scenarios() -> list[tuple[Scenario, Path]]:
    """Return the known scenarios with their files, sorted by id."""
    return [(load_scenario(load.path_of(_KIND, i)), load.path_of(_KIND, i)) for i in load.ids(_KIND)]


def chosen_candidates(scenario: Scenario, only: Sequence[str] | None, where: str = "--only") -> list[Candidate]:
    """Return the candidates named in ``only``, in that order, or all of them.

    Raises ``InputError`` for an id that the scenario does not have; ``where`` says where it was written.
    """
    known = {c.id: c for c in scenario.candidates}
    for name in only or ():
        if name not in known:
            raise unknown_name("command line", where, name, known, "scenarios")
    return [known[name] for name in only] if only else list(scenario.candidates)
