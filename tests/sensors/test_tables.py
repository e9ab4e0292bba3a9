"""Fits recover constants that made the times, whatever the noise-free shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.perf import cpu_probe
from envelope.sensors import roofline_fit, tables
from envelope.sensors.attention import AttentionTime, HeadShape
from envelope.sensors.elementwise import ElementwiseTime
from envelope.sensors.experts import ExpertShape, ExpertTime
from envelope.sensors.gemm import ChainTime
from envelope.sensors.timing import LONG_S, TURNS, Effort, Sample, joined, timed, timed_in_turns
from envelope.spec.hardware import EfficiencyCurve

SHAPES = (((1024, 1024),) * 8, ((2048, 5632), (5632, 2048)), ((2048, 256), (256, 2048)) * 20)


def sample(seconds: float, noise_frac: float = 0.0) -> Sample:
    return Sample(seconds * 0.98, seconds, 5, noise_frac)


def chains(launch_s: float, activation_s: float, weight_s: dict[int, float]) -> list[ChainTime]:
    found = []
    for shapes in SHAPES:
        for rows, per_weight in weight_s.items():
            seconds = sum(launch_s + k * n * per_weight + rows * (k + n) * activation_s for k, n in shapes)
            found.append(ChainTime(rows, shapes, sample(seconds)))
    return found


@given(
    launch_s=st.floats(1e-6, 5e-5), activation_s=st.floats(1e-11, 1e-9), per_weight_s=st.floats(1e-11, 1e-9),
    growth=st.floats(0.01, 0.5),
)  # fmt: skip
def test_products_are_taken_apart(launch_s: float, activation_s: float, per_weight_s: float, growth: float) -> None:
    weight_s = {m: per_weight_s * (1 + growth * m) for m in (1, 8, 64, 512)}
    fit = tables.linear_table(chains(launch_s, activation_s, weight_s))
    assert fit.error_median_frac == pytest.approx(0.0, abs=1e-4)
    for m, n, k in ((1, 4096, 2048), (64, 1024, 1024), (512, 896, 4864)):
        truth = launch_s + n * k * weight_s[m] + m * (k + n) * activation_s
        assert cpu_probe.linear_s(fit.constants, m, n, k) == pytest.approx(truth, rel=0.02)


def test_a_disturbed_time_hardly_moves_the_fit() -> None:
    times = chains(1e-5, 1e-10, {1: 1e-10, 8: 2e-10, 64: 1e-9})
    spoilt = [
        ChainTime(times[0].rows, times[0].shapes, sample(3 * times[0].sample.median_s, noise_frac=0.5)),
        *times[1:],
    ]
    truth = tables.linear_table(times).constants
    fitted = tables.linear_table(spoilt).constants
    assert cpu_probe.linear_s(fitted, 1, 2048, 2048) == pytest.approx(
        cpu_probe.linear_s(truth, 1, 2048, 2048), rel=0.05
    )


def test_decode_attention_is_taken_apart() -> None:
    times = []
    for width in (64, 128):
        shape = HeadShape(16, 4, width)
        for batch in (1, 2, 8):
            for context, per_read in ((16, 1e-10), (128, 1e-10), (512, 1.5e-10), (2048, 1.8e-10)):
                seconds = 5e-6 + batch * 16 * (2e-7 + context * width * per_read)
                times.append(AttentionTime(shape, batch, 1, context - 1, sample(seconds), 1))
    fit = tables.decode_attention_table(times)
    assert fit.error_median_frac == pytest.approx(0.0, abs=1e-3)
    truth = 5e-6 + 4 * 32 * (2e-7 + 2048 * 64 * 1.8e-10)
    assert cpu_probe.decode_attention_s(fit.constants, 4, 2048, 32, 8, 64) == pytest.approx(truth, rel=0.01)
    assert cpu_probe.decode_attention_s(fit.constants, 4, 0, 32, 8, 64) == pytest.approx(5e-6 + 4 * 32 * 2e-7, rel=0.05)
    # Between the measured widths the nearer one serves.
    near = cpu_probe.decode_attention_s(fit.constants, 1, 512, 16, 4, 96)
    assert near > cpu_probe.decode_attention_s(fit.constants, 1, 512, 16, 4, 64)


def test_reading_the_cache_is_told_from_the_work_of_a_head() -> None:
    times = []
    for kv_heads in (4, 16):
        for batch in (1, 8):
            for context in (16, 512, 2048):
                seconds = 5e-6 + batch * (16 * 2e-7 + context * 64 * (16 * 1.2e-10 + kv_heads * 3e-10))
                times.append(AttentionTime(HeadShape(16, kv_heads, 64), batch, 1, context - 1, sample(seconds), 1))
    constants = tables.decode_attention_table(times).constants
    assert constants["cache_s_64"] == pytest.approx(3e-10, rel=0.02)
    truth = 5e-6 + 2 * (16 * 2e-7 + 1024 * 64 * (16 * 1.2e-10 + 8 * 3e-10))
    assert cpu_probe.decode_attention_s(constants, 2, 1024, 16, 8, 64) == pytest.approx(truth, rel=0.01)


@given(row_s=st.floats(1e-8, 1e-6), near_s=st.floats(2e-11, 2e-10), far_s=st.floats(2e-11, 2e-10))
def test_prefill_attention_is_taken_apart(row_s: float, near_s: float, far_s: float) -> None:
    """Counted pair by pair: token i of a chunk sees what is cached, those before it and itself."""

    def truth(new: int, cached: int, heads: int) -> float:
        pairs = sum(cached + i + 1 for i in range(new))
        return heads * (new * row_s + 64 * pairs * (far_s if cached + new > 1000 else near_s))

    shape = HeadShape(16, 4, 64)
    chunks = [(16, 0), (64, 0), (128, 384), (512, 0), (2048, 0), (512, 1536), (128, 1920)]
    times = [AttentionTime(shape, 1, n, c, sample(5e-6 + truth(n, c, 16)), 1) for n, c in chunks]
    fit = tables.prefill_attention_table(times)
    assert fit.error_median_frac == pytest.approx(0.0, abs=0.02)
    for new, cached in ((2048, 0), (512, 0), (256, 1792)):
        found = cpu_probe.prefill_attention_s(fit.constants, new, cached, 32, 64)
        assert found == pytest.approx(truth(new, cached, 32), rel=0.03)


@pytest.mark.parametrize(
    ("form", "constants", "named"),
    [
        ("linear_table", {"t0_s": 0.0, "weight_s_1": 1e-10}, ("activation_s", "is required")),
        ("linear_table", {"t0_s": 0.0, "activation_s": 0.0}, ("weight_s_*", "needs an entry")),
        ("experts_table", {"weight_s_1": 0.0}, ("weight_s_1", "must be positive")),
        ("experts_table", {"weight_s_few": 1e-10}, ("weight_s_few", "must end in a number")),
        ("causal_attention_table", {"t0_s": 0.0, "causal_s_64_512": 1e-10}, ("row_s_64", "is required")),
        ("elementwise_table", {"call_s": -1.0}, ("call_s", "must not be negative")),
        ("prefill_attention_table", {}, ("form", "must be one of")),
    ],
)
def test_a_table_that_cannot_be_read_says_what_it_lacks(
    form: str, constants: dict[str, float], named: tuple[str, str]
) -> None:
    curve = EfficiencyCurve(
        op="table",
        number_format="fp32",
        form=form,
        constants=constants,
        evidence="measured",
        source="s",
        date="2026-11",
    )
    assert any(name == named[0] and rule.startswith(named[1]) for name, rule in cpu_probe.problems(curve))


def test_experts_and_elementwise_tables_pass_through_their_points() -> None:
    shape = ExpertShape(16, 4, 1024, 768)
    times = [ExpertTime(shape, t, touched, sample(s), 2) for t, touched, s in ((1, 4, 1e-3), (64, 16, 2e-2))]
    fit = tables.experts_table(times)
    assert cpu_probe.experts_s(fit.constants, 64, 16, 4, shape.weights) == pytest.approx(1e-2, rel=1e-3)
    small = [ElementwiseTime(k, e, sample(s), 1) for k in ("norm", "gate") for e, s in ((2048, 2e-6), (1e6, 4e-4))]
    found = tables.elementwise_table(small, sample(3e-6)).constants
    assert cpu_probe.elementwise_s(found, 1e6, "gate") == pytest.approx(4e-4, rel=1e-3)
    assert found["call_s"] == 3e-6


def test_tables_do_not_extrapolate_beyond_proportion() -> None:
    constants = {"t0_s": 0.0, "activation_s": 0.0, "weight_s_1": 1e-10, "weight_s_256": 2e-9}
    assert cpu_probe.linear_s(constants, 512, 100, 100) == pytest.approx(
        2 * cpu_probe.linear_s(constants, 256, 100, 100)
    )


def test_smooth_constants_recover_a_roofline() -> None:
    peak, bandwidth = 3e11, 3e10
    times = []
    for shapes in SHAPES:
        for rows in (1, 4, 16, 64, 256, 1024):
            weights = sum(k * n for k, n in shapes)
            moved = 4.0 * weights + 2.0 * rows * sum(k + n for k, n in shapes)
            compute, memory = 2 * rows * weights / (peak * 0.8), moved / (bandwidth * 0.9)
            seconds = len(shapes) * 1e-5 + (compute**3 + memory**3) ** (1 / 3)
            times.append(ChainTime(rows, shapes, sample(seconds)))
    fit = roofline_fit.gemm_curve(times, 4.0, peak, bandwidth)
    assert fit.error_median_frac is not None
    assert fit.error_median_frac < 0.01
    assert fit.constants["eff_c"] == pytest.approx(0.8, rel=0.05)
    assert fit.constants["eff_b"] == pytest.approx(0.9, rel=0.05)


def test_best_is_never_above_the_median() -> None:
    array = np.ones(1 << 16)
    found = timed(array.sum, Effort(repeats=9, budget_s=0.2, retries=0))
    assert found.best_s <= found.median_s
    assert found.repeats == 9


def test_a_spent_budget_still_gives_two_repeats() -> None:
    calls = []
    found = timed(lambda: calls.append(1), Effort(repeats=50, budget_s=0.0, retries=0))
    assert found.repeats == 2
    assert len(calls) == 3  # one of them to warm up


def test_runs_take_turns() -> None:
    order: list[str] = []
    first, second = timed_in_turns([lambda: order.append("a"), lambda: order.append("b")], Effort(4, 0.0, 0, retries=0))
    assert "".join(order).replace("aa", "a").replace("bb", "b") == "ab" * TURNS
    assert first.repeats == second.repeats == TURNS


def test_a_long_run_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**9, int(LONG_S) + 1))
    monkeypatch.setattr("envelope.sensors.timing.time.perf_counter", lambda: float(next(clock)))
    assert timed(lambda: None, Effort(5, 100.0, 0), warm_up=0).repeats == 1


def test_turns_that_others_disturbed_do_not_count() -> None:
    quiet, slower, disturbed = Sample(1.0, 1.1, 3), Sample(1.2, 1.3, 3), Sample(0.9, 5.0, 3, noise_frac=0.4)
    found = joined([quiet, slower, disturbed])
    assert (found.best_s, found.median_s, found.repeats) == (0.9, pytest.approx(1.2), 9)
    assert joined([disturbed, Sample(2.0, 3.0, 1, noise_frac=0.2)]).median_s == 3.0
