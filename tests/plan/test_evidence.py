"""Evidence: posteriors equal scipy's, gates flip at their bound, harness files become records, verdicts follow."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from envelope.cli import main
from envelope.errors import InputError
from envelope.plan.bring.evidence_import import read_evidence
from envelope.plan.case.measured import failure_rate, measured_work, quantization_loss
from envelope.plan.case.scenarios import load_scenario, with_evidence_file
from envelope.plan.compare import compare
from envelope.plan.rules.gates import further_trials, gate_status, gates_of, upper_bound_frac
from envelope.spec import load
from envelope.spec.evidence import EvidenceRecord, EvidenceSet, Gate, QuantizationPrior
from envelope.spec.number_format import NumberFormat
from envelope.spec.scenario import Scenario

FIELD = load_scenario("field-devices")
LEAK = Gate(id="no-leak", task="leak-probe", max_failure_frac=0.01)


def record(**changes: Any) -> EvidenceRecord:
    data = {"model": "llama-3.1-8b", "weights": "q4_k_m", "task": "notes", "trials": 200, "passes": 190, "date": 2026}
    return load.validate(EvidenceRecord, data | changes, "test")


def with_evidence(*records: EvidenceRecord, gates: tuple[Gate, ...] = ()) -> Scenario:
    return FIELD.model_copy(update={"evidence": EvidenceSet(records=records, gates=gates)})


@pytest.mark.parametrize(("failures", "trials"), [(0, 1), (0, 500), (3, 40), (40, 40)])
def test_posteriors_equal_scipys(failures: int, trials: int) -> None:
    found = failure_rate(failures, trials)
    # Jeffreys' interval as in scipy.stats.beta, and its mean in closed form.
    low, high = stats.beta.interval(0.9, failures + 0.5, trials - failures + 0.5)
    assert (found.low_frac, found.high_frac) == pytest.approx((low, high))
    assert found.mean_frac == pytest.approx((failures + 0.5) / (trials + 1))


@pytest.mark.parametrize(("failures", "trials"), [(0, 500), (2, 100)])
def test_the_clopper_pearson_bound_is_the_limit_of_a_prior_that_counts_one_failure(failures: int, trials: int) -> None:
    exact = stats.binomtest(failures, trials, alternative="less").proportion_ci(0.95, method="exact").high
    assert upper_bound_frac(failures + 1, trials + 1, 0.95, prior=(1e-9, 1e-9)) == pytest.approx(exact, rel=1e-6)


def test_no_leak_in_500_probes_passes_the_gate_and_one_in_200_does_not() -> None:
    probes = record(task="leak-probe", trials=500, passes=500)
    assert gate_status(LEAK, [probes], "x", EvidenceSet()).passed
    status = gate_status(LEAK, [record(task="leak-probe", trials=200, passes=199)], "x", EvidenceSet())
    assert not status.passed
    assert status.further_trials is not None
    assert status.further_trials > 0


@pytest.mark.parametrize("failures", [0, 1, 5])
def test_the_trials_asked_for_are_the_fewest_that_pass(failures: int) -> None:
    more = further_trials(failures, 20, LEAK)
    assert more is not None
    assert upper_bound_frac(failures, 20 + more, 0.95) < 0.01
    assert upper_bound_frac(failures, 20 + more - 1, 0.95) >= 0.01


def test_a_rate_above_the_limit_is_never_settled() -> None:
    assert further_trials(5, 100, LEAK, rate_frac=0.05) is None


def test_a_gate_flips_the_verdict_at_its_bound() -> None:
    probes = record(task="leak-probe", trials=400, passes=400)
    bound = upper_bound_frac(0, 400, 0.95)
    for limit, feasible in ((bound * 1.001, True), (bound * 0.999, False)):
        gate = Gate(id="no-leak", task="leak-probe", max_failure_frac=limit)
        result = compare(with_evidence(probes, gates=(gate,)), seeds=1, only=["laptop-8b"]).candidates[0]
        assert result.feasible is feasible
        assert {c.id: c.satisfied for c in result.constraints}["evidence.no-leak"] is feasible


def test_public_scores_are_shown_but_settle_no_gate_unless_it_says_so() -> None:
    public = record(task="leak-probe", trials=9000, passes=9000, kind="public", source="a leaderboard")
    status = gate_status(LEAK, [public], "x", EvidenceSet())
    assert (status.passed, status.public_only, status.trials) == (False, True, 0)
    assert gate_status(LEAK.model_copy(update={"public_counts": True}), [public], "x", EvidenceSet()).passed
    _, used = measured_work(with_evidence(public.model_copy(update={"task": "notes"})), FIELD.candidates[2])
    assert used[0].rate is None


def test_measured_difficulty_replaces_the_assumed_one() -> None:
    laptop = next(c for c in FIELD.candidates if c.id == "laptop-8b")
    scenario, used = measured_work(with_evidence(record()), laptop)
    assert scenario.workload.tasks[0].difficulty.small == pytest.approx(10.5 / 201)
    assert used[0].evidence == "measured"
    solved = [
        compare(with_evidence(record(passes=passes)), seeds=1, only=["laptop-8b"]).candidates[0].solved_frac
        for passes in (196, 120)
    ]
    assert solved[0] - solved[1] == pytest.approx((120 / 200 - 196 / 200) * -1, abs=0.08)


def test_another_format_of_the_model_counts_with_the_prior_of_quantization() -> None:
    laptop = next(c for c in FIELD.candidates if c.id == "laptop-8b")
    scenario, used = measured_work(with_evidence(record(weights="native")), laptop)
    solved = 1 - 10.5 / 201
    assert scenario.workload.tasks[0].difficulty.small == pytest.approx(1 - solved * 0.98)
    assert "q4_k_m loses 2%" in used[0].basis


def test_naming_the_checkpoints_own_format_is_no_other_evidence() -> None:
    assert quantization_loss("llama-3.1-8b", "bf16")[0] == 0
    assert quantization_loss("gpt-oss-120b", "native")[0] == 0
    loss, origin = quantization_loss("llama-3.1-8b", "fp8")
    assert loss == 0
    assert "2411.02355" in origin.source


def test_every_weight_format_on_offer_has_a_quantization_prior() -> None:
    prior = load.load(QuantizationPrior, "quality", "quantization-loss", file="test", path="")
    known = {name for item in prior.losses for name in item.formats}
    weights = {f.id for f in load.load_all(NumberFormat, "formats") if f.weights}
    parts = {name for name in weights if name.startswith("ggml-") or name in {"fp8-fp4-ds", "fp8-ds-mla"}}
    assert weights - parts <= known


def test_an_adapted_model_needs_evidence_of_its_own() -> None:
    laptop = next(c for c in FIELD.candidates if c.id == "laptop-8b").model_copy(update={"adaptation": "lora"})
    assert measured_work(with_evidence(record()), laptop)[1][0].rate is None
    assert measured_work(with_evidence(record(adaptation="lora")), laptop)[1][0].rate is not None


def test_lm_evaluation_harness_results_become_records(tmp_path: Path) -> None:
    # Shape of lm-evaluation-harness 0.4.9 results.json.
    data = {
        "results": {"gsm8k": {"alias": "gsm8k", "exact_match,none": 0.75, "exact_match_stderr,none": 0.01}},
        "n-samples": {"gsm8k": {"original": 1319, "effective": 400}},
        "config": {"model_args": "pretrained=meta-llama/Llama-3.1-8B,dtype=auto", "model_sha": "0e9e39f249a1"},
        "date": 1768964383.86,
        "lm_eval_version": "0.4.9.2",
    }
    file = tmp_path / "results.json"
    file.write_text(json.dumps(data))
    (found,) = read_evidence(file, task="notes")
    assert (found.model, found.trials, found.passes) == ("meta-llama/Llama-3.1-8B", 400, 300)
    assert (found.date, found.revision, found.task) == ("2026-01-21", "0e9e39f249a1", "notes")


def test_inspect_logs_become_records(tmp_path: Path) -> None:
    # Shape of an Inspect 0.3 log (version 2), header only.
    data = {
        "version": 2,
        "status": "success",
        "eval": {"created": "2025-07-03T16:44:30+02:00", "task": "inspect_evals/pubmedqa", "model": "openai/gpt-5",
                 "packages": {"inspect_ai": "0.3.108"}, "config": {"epochs": 1}},
        "results": {"total_samples": 500, "completed_samples": 500,
                    "scores": [{"name": "choice", "metrics": {"accuracy": {"name": "accuracy", "value": 0.9},
                                                              "stderr": {"name": "stderr", "value": 0.01}}}]},
    }  # fmt: skip
    file = tmp_path / "log.json"
    file.write_text(json.dumps(data))
    (found,) = read_evidence(file)
    assert (found.task, found.trials, found.passes, found.harness) == ("pubmedqa", 500, 450, "Inspect 0.3.108")


def test_promptfoo_exports_become_one_record_per_provider(tmp_path: Path) -> None:
    def prompt(provider: str, passed: int, failed: int) -> dict[str, Any]:
        counts = {"testPassCount": passed, "testFailCount": failed, "testErrorCount": 1}
        return {"label": "No {{secret}}!", "provider": provider, "metrics": counts}

    data = {
        "evalId": "eval-abc-2025-10-01T20:08:11",
        "results": {"version": 3, "timestamp": "2025-10-01T20:08:11.168Z",
                    "prompts": [prompt("openai:gpt-5", 8, 2), prompt("openai:gpt-5-mini", 5, 5)]},
    }  # fmt: skip
    file = tmp_path / "output.json"
    file.write_text(json.dumps(data))
    found = read_evidence(file)
    assert [(r.model, r.trials, r.passes) for r in found] == [("openai:gpt-5", 10, 8), ("openai:gpt-5-mini", 10, 5)]
    assert found[0].task == "no-secret"


def test_a_csv_is_read_by_its_columns_and_bad_rows_are_named(tmp_path: Path) -> None:
    file = tmp_path / "ours.csv"
    file.write_text("model,task,trials,passes,date\nllama-3.1-8b,notes,50,48,2026-11-01\n")
    assert read_evidence(file)[0].passes == 48
    file.write_text("model,task,trials,passes,date\nllama-3.1-8b,notes,50,51,2026-11-01\n")
    with pytest.raises(InputError, match="more than trials"):
        read_evidence(file)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"results": {}, "n-samples": {}}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(InputError):
        read_evidence(file)


def test_an_evidence_file_beside_the_scenario_is_read_and_its_names_are_checked(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    source = load.path_of("scenarios", "field-devices").read_text()
    (tmp_path / "field-devices.yaml").write_text(source)
    beside = tmp_path / "evidence" / "field-devices.yaml"
    beside.write_text("records: [{model: llama-3.1-8b, task: notes, trials: 5, passes: 5, date: 2026}]")
    assert len(load_scenario(tmp_path / "field-devices.yaml").evidence.records) == 1
    beside.write_text("records: [{model: llama-3.1-8bb, task: notes, trials: 5, passes: 5, date: 2026}]")
    with pytest.raises(InputError, match=r"records\[0\].model: 'llama-3.1-8bb' unknown; nearest"):
        with_evidence_file(FIELD, beside)


def test_of_several_models_the_worst_decides_a_gate() -> None:
    scenario = load_scenario("math-tutor")
    hybrid = next(c for c in scenario.candidates if c.id == "hybrid-8b-escalate")
    good = {"task": "leak-probe", "trials": 900, "passes": 900}
    both = [record(**good, weights="fp8"), record(**good, model="mistral-mistral-large-4", weights="native")]
    for records, passed in ((both, True), (both[:1], False)):
        evidence = EvidenceSet(records=tuple(records), gates=(LEAK,))
        assert gates_of(scenario.model_copy(update={"evidence": evidence}), hybrid)[0].passed is passed


def test_the_command_lists_gates_and_converts_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ours.csv"
    file.write_text("model,task,trials,passes,date\nllama-3.1-8b,notes,50,48,2026-11-01\n")
    assert main(["evidence", "--import", str(file)]) == 0
    converted = tmp_path / "e.yaml"
    converted.write_text(capsys.readouterr().out)
    assert main(["evidence", "field-devices", "--evidence", str(converted), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["records"][0]["passes"] == 48
    assert any(t["rate"] is not None for t in data["tasks"])
    assert main(["evidence"]) == 2


@pytest.mark.parametrize("commented", [True, False])
def test_the_template_holds_nothing_until_it_is_filled_in(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, commented: bool
) -> None:
    assert main(["evidence", "coding-assistant", "--template"]) == 0
    text = capsys.readouterr().out
    if not commented:
        head = text.index("records: []")
        text = "\n".join(line.removeprefix("# ") for line in text[head:].splitlines() if not line.endswith(": []"))
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    scenario = load_scenario("coding-assistant")
    found = with_evidence_file(scenario, path).evidence
    assert bool(found.records) is not commented
    assert bool(found.gates) is not commented
    assert {t.id for t in scenario.workload.tasks} <= {r.task for r in found.records} or commented
