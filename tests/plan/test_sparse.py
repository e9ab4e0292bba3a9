"""Dense against sparse: what is read follows the batch, what is resident does not."""

import json

import pytest

from envelope.cli import main
from envelope.errors import InputError
from envelope.perf.estimate import estimate
from envelope.perf.replica import resolve
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.deployment.sparse import SparseView, active_bytes, sparse_view

MODELS = ("llama-3.3-70b", "gpt-oss-120b", "deepseek-v4-flash")


@pytest.fixture(scope="module")
def view() -> SparseView:
    return sparse_view(load_scenario("coding-assistant"), MODELS, "nvidia-h200-sxm-141gb")


def test_a_dense_model_reads_the_same_whatever_the_batch() -> None:
    dense = resolve(model="llama-3.3-70b", hardware="nvidia-h200-sxm-141gb")
    assert active_bytes(dense, 1) == active_bytes(dense, 64)


def test_a_sparse_model_reads_all_its_experts_in_the_end() -> None:
    sparse = resolve(model="mixtral-8x7b", hardware="nvidia-h200-sxm-141gb")
    resident = 46.7e9 * 2
    # Mixtral 8x7B: 12.9 of 46.7 billion parameters are active for one token (Jiang et al., 2024).
    assert active_bytes(sparse, 1) == pytest.approx(12.9e9 * 2, rel=0.02)
    assert active_bytes(sparse, 500) == pytest.approx(resident, rel=0.02)
    # Two tokens touch 8·(1 − (1 − 2/8)²) = 3.5 experts in the mean.
    experts = (active_bytes(sparse, 500) - active_bytes(sparse, 1)) / 6
    assert active_bytes(sparse, 2) - active_bytes(sparse, 1) == pytest.approx(1.5 * experts, rel=0.01)


def test_the_view_names_the_smallest_node_that_really_fits(view: SparseView) -> None:
    for row in view.rows:
        assert row.min_devices is not None
        half = row.min_devices // 2
        if half:
            from envelope.spec.deployment import Parallelism

            smaller = resolve(model=row.model, hardware=view.hardware, parallelism=Parallelism(tp=half))
            assert not estimate(smaller, view.input_tokens, view.output_tokens).feasible
        assert row.resident_bytes < row.min_devices * 141e9
        rates = list(row.output_tokens_per_s.values())
        assert rates == sorted(rates)


def test_compressed_attention_makes_long_contexts_cheap(view: SparseView) -> None:
    dense, _, flash = view.rows
    assert flash.kv_bytes_per_sequence[131_072] < 0.1 * dense.kv_bytes_per_sequence[131_072]
    assert any("deepseek-v4-flash" in line and "cache" in line for line in view.lines)


def test_the_busiest_hour_says_how_many_nodes_a_failure_is_one_of(view: SparseView) -> None:
    for row in view.rows:
        assert row.nodes_at_peak is not None
        wanted = load_scenario(view.scenario).workload.peak_rate_per_s * view.output_tokens
        best = max(row.output_tokens_per_s.values())
        assert (row.nodes_at_peak - 1) * best < wanted <= row.nodes_at_peak * best or row.nodes_at_peak == 1


def test_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="at least one model"):
        sparse_view(load_scenario("coding-assistant"), (), "nvidia-h200-sxm-141gb")


def test_the_command_prints_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sparse", "coding-assistant"]) == 0
    assert "resident" in capsys.readouterr().out
    assert main(["sparse", "coding-assistant", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 3
