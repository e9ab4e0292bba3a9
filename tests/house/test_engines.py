"""An engine is what its record says: no code asks for a name, and a copy under another name does the same."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envelope.plan.case.scenarios import load_scenario
from envelope.plan.fixes import options
from envelope.plan.size.grid import grid_for
from envelope.spec import folders, load
from envelope.spec.engine import Engine
from envelope.spec.replace import with_value
from envelope.spec.scenario import Candidate, Scenario
from envelope.validation import names
from envelope.validation.rows import MeasuredRow
from envelope.validation.target import layouts

PACKAGE = Path(__file__).parents[2] / "envelope"
IDS = {path.stem for path in (PACKAGE / "catalog" / "engines").glob("*.yaml")}
ROOMS = ("perf", "plan", "serving", "money", "report", "dashboard", "validation/target.py")
COPY = "made-up.cpp"


def branches(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and id of every engine that code compares with, matches, lists or keys a table by."""
    for node in ast.walk(ast.parse(text)):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = [*node.elts]
        elif isinstance(node, ast.Dict):
            parts = node.keys
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "startswith":
            parts = [*node.args]
        for part in parts:
            if isinstance(part, ast.Constant) and part.value in IDS:
                yield part.lineno, part.value


@pytest.mark.parametrize(
    "line",
    [
        'a = pool.engine == "vllm"', 'b = "llama.cpp" != engine.id', 'c = engine.id in {"ollama", "x"}',
        'D = ("mlx", "openvino")', 'e = {"vllm": 1}.get(engine)', 'f = name.startswith("vllm")',
        'match engine:\n    case "sglang":\n        pass',
    ],
)  # fmt: skip
def test_a_branch_on_a_name_is_seen(line: str) -> None:
    assert list(branches(line))


def test_no_code_branches_on_the_name_of_an_engine() -> None:
    files = [
        f for room in ROOMS for f in ([PACKAGE / room] if room.endswith(".py") else (PACKAGE / room).rglob("*.py"))
    ]
    assert len(files) > 100
    found = [
        f"{f.relative_to(PACKAGE)}:{line}: {ident}" for f in files for line, ident in branches(f.read_text("utf-8"))
    ]
    assert not found


def test_a_class_of_devices_has_one_usual_engine() -> None:
    claimed = [c for e in load.load_all(Engine, "engines") for c in e.default_on]
    assert len(claimed) == len(set(claimed))


def forget() -> None:
    names.find_engine.cache_clear()
    names._engines.cache_clear()


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[None]:
    shipped = (PACKAGE / "catalog" / "engines" / "llama.cpp.yaml").read_text("utf-8")
    head, _, rest = shipped.partition("aliases:")
    rest = rest[rest.index("efficiency_family") :]
    folder = tmp_path / "engines"
    folder.mkdir()
    (folder / f"{COPY}.yaml").write_text(head.replace("llama.cpp", COPY) + rest, encoding="utf-8")
    folders.set_data_dirs((tmp_path,))
    forget()
    yield
    folders.set_data_dirs(())
    forget()


def with_engine(engine: str, weights: str, kv: str) -> tuple[Scenario, Candidate]:
    scenario = load_scenario("coding-assistant")
    for name, value in (("engine", engine), ("weights", weights), ("kv", kv)):
        scenario = with_value(scenario, f"candidates[own-llama-70b].pools[0].{name}", value)
    return scenario, next(c for c in scenario.candidates if c.id == "own-llama-70b")


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize(("weights", "kv"), [("native", "bf16"), ("q5_k_m", "q8_0")])
def test_a_copy_gets_the_same_fixes_and_sizes(weights: str, kv: str) -> None:
    (one, first), (other, second) = with_engine("llama.cpp", weights, kv), with_engine(COPY, weights, kv)
    assert list(options._lighter(first, "x")) == list(options._lighter(second, "x"))
    assert list(options._more_tokens(first, "x")) == list(options._more_tokens(second, "x")) == []
    grids = [grid_for(s, "own-llama-70b").model_dump(exclude={"engines"}) for s in (one, other)]
    assert grids[0] == grids[1]
    offered = {c.value for (c,) in options._lighter(second, "x")}
    assert {"q4_k_m", "q3_k_m"} <= offered
    assert "fp8" not in offered


ROWS: dict[str, dict[str, Any]] = {
    "layers on several devices": {
        "device": "RTX 4090",
        "device_count": 2,
        "model": "Llama-3.1-70B",
        "weights": "q4_k_m",
    },
    "more than the device holds": {"device": "RTX 4090", "model": "Llama-3.1-70B", "weights": "q4_k_m"},
    "a file in MXFP4": {"device": "RTX 4090", "model": "gpt-oss-20b", "weights": "mxfp4"},
}


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("name", ROWS)
def test_a_copy_is_resolved_alike(name: str) -> None:
    def resolved(engine: str) -> list[tuple[object, ...]]:
        row = {"id": "t", "collection": "published/t", "quantity": "decode_rate", "value": 1.0, "load": "single"}
        found = list(layouts(MeasuredRow.model_validate({**row, **ROWS[name], "engine": engine})))
        assert all(t.replica.engine.id == engine for t in found)
        specs = [t.replica for t in found]
        return [
            (r.weights, r.kv, r.parallelism, r.settings, t.prompt_tables()) for r, t in zip(specs, found, strict=True)
        ]

    mine, theirs = resolved(COPY), resolved("llama.cpp")
    assert [m[:4] for m in mine] == [t[:4] for t in theirs]
    for a, b in zip(mine, theirs, strict=True):
        assert repr(a[4]) == repr(b[4])
    settings: Any = mine[0][3]
    parallelism: Any = mine[0][2]
    assert (parallelism.pp == 2) == ("several" in name)
    assert (settings.offload_layers > 0) == ("more than" in name)
