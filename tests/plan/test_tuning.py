"""Tuning bench: FLOPs, memory and break-even by hand, and knowledge that does not belong into weights."""

import json
from typing import Any

import pytest

from envelope.cli import main
from envelope.errors import InputError
from envelope.perf.params import adapter_params
from envelope.perf.replica import resolve
from envelope.plan.deployment.tuning import TRAINED, TuningBench, TuningQuery, TuningRow, tuning_bench
from envelope.plan.deployment.tuning_cost import retrieval_usd_per_year
from envelope.spec.economic_facts import facts

QUERY = TuningQuery(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", requests_per_day=20_000)


def bench(**changes: Any) -> TuningBench:
    return tuning_bench(QUERY.model_copy(update=changes))


def row(found: TuningBench, method: str) -> TuningRow:
    return next(r for r in found.rows if r.method == method)


def test_a_published_run_is_reproduced() -> None:
    # NVIDIA NeMo 24.12, H100: 1.12 GPU-hours (LoRA) and 1.64 (full) for 100 million tokens of an 8B model.
    found = bench(training_tokens=10**8)
    assert row(found, "lora").run.device_hours == pytest.approx(1.12, rel=0.02)  # type: ignore[union-attr]
    assert row(found, "full").run.device_hours == pytest.approx(1.64, rel=0.02)  # type: ignore[union-attr]


def test_memory_follows_the_papers() -> None:
    found = bench()
    params, checkpoints = 8.03e9, 4096 * 4096 * 32 * 2
    # ZeRO: 16 bytes a parameter; frozen bf16 weights take 2, NF4 with double quantization 4.127 bits.
    assert row(found, "full").run.memory_bytes == pytest.approx(16 * params + checkpoints, rel=0.01)  # type: ignore[union-attr]
    adapter = 16 * row(found, "lora").run.trainable_params  # type: ignore[union-attr]
    assert row(found, "lora").run.memory_bytes == pytest.approx(2 * params + adapter + checkpoints, rel=0.01)  # type: ignore[union-attr]
    assert row(found, "qlora").run.memory_bytes == pytest.approx(0.516 * params + adapter + checkpoints, rel=0.01)  # type: ignore[union-attr]


def test_adapters_of_llama_have_the_published_size() -> None:
    # peft prints 41,943,040 trainable parameters for rank 16 on all seven projections of Llama 3 8B.
    replica = resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb")
    assert adapter_params(replica.model, 16) == 41_943_040
    assert adapter_params(replica.model, 32) == 2 * 41_943_040


def test_staff_is_paid_as_in_the_region() -> None:
    def upkeep(region: str) -> float:
        return retrieval_usd_per_year(QUERY.changed(region=region))["upkeep of the index"]

    known = facts().defaults
    euro = known["staff_ml_eu"].value * known["eur_usd"].value
    assert upkeep("de") / upkeep("us") == pytest.approx(euro / known["staff_ml_us"].value)
    with pytest.raises(InputError, match="region: 'germany' unknown"):
        bench(region="germany")


def test_the_break_even_is_where_the_yearly_costs_meet() -> None:
    found = bench()
    point = next(b for b in found.break_even if (b.method, b.against) == ("lora", "prompt"))
    assert point.requests_per_day is not None
    assert point.requests_per_day > 0
    at = bench(requests_per_day=point.requests_per_day)
    assert row(at, "lora").total_usd_per_year == pytest.approx(row(at, "prompt").total_usd_per_year)
    more = bench(requests_per_day=2 * point.requests_per_day)
    assert row(more, "lora").total_usd_per_year < row(more, "prompt").total_usd_per_year


def test_a_prefix_cache_takes_most_of_the_long_prompts_price_away() -> None:
    found = bench()
    plain, cached, tuned = (row(found, m) for m in ("prompt", "prompt_cached", "lora"))
    assert plain.device_s_per_request > cached.device_s_per_request >= tuned.device_s_per_request
    assert plain.ttft_s is not None
    assert cached.ttft_s is not None
    assert plain.ttft_s > cached.ttft_s
    assert tuned.tokens_saved_per_request == QUERY.prompt_tokens


def test_weekly_knowledge_is_not_fit_for_weights() -> None:
    weekly = bench(changes_per_year=52.0)
    assert weekly.cheapest not in TRAINED
    assert all(r.fits_weights == (r.method not in TRAINED) for r in weekly.rows)
    assert any("not fit for weights" in note for note in weekly.notes)
    assert all(r.fits_weights for r in bench(changes_per_year=4.0).rows)


def test_many_adapters_share_a_base_and_cost_time() -> None:
    one, many = row(bench(), "lora"), row(bench(behaviours=20), "lora")
    assert one.itl_s is not None
    assert many.itl_s == pytest.approx(one.itl_s + 0.002)
    assert "20 adapters" in many.serving_note
    assert many.fixed_by_line_usd["runs"] == pytest.approx(20 * one.fixed_by_line_usd["runs"])


def test_fixed_lines_are_products_of_the_catalog() -> None:
    lora, known = row(bench(), "lora"), facts().defaults
    assert lora.run is not None
    assert lora.fixed_by_line_usd["data"] == known["labelled_items"].value * known["labelling_item"].value
    assert lora.fixed_by_line_usd["runs"] == pytest.approx(lora.run.usd * known["ft_trials"].value * 2)
    assert lora.fixed_usd_per_year == pytest.approx(sum(lora.fixed_by_line_usd.values()))


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="short by"):
        bench(model="llama-3.3-70b")


def test_the_command_prints_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["tuning", "--model", "llama-3.1-8b", "--hardware", "nvidia-h100-sxm-80gb", "--requests-per-day", "5000"]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert "lora is cheaper than prompt" in out
    for word in ("FLOP", "device-hours", "tokens saved", "TTFT saved", "evaluation", "rollback drills", "refreshed"):
        assert word in out
    assert main([*args, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 6
    assert main([*args, "--rank", "0"]) == 2
