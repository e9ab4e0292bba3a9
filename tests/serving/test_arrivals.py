"""Drawn requests have the statistics that the workload states."""

import numpy as np
import pytest

from envelope.serving.arrivals import Window, generate, window_of
from envelope.serving.processes import start_times, weibull_shape
from envelope.serving.sampling import draw
from envelope.spec.lengths import mean_of
from envelope.spec.load import load_all, validate
from envelope.spec.workload import Arrivals, Workload, WorkloadPreset

FLAT = np.ones(1)


def gaps_of(kind: str, cv: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.diff(start_times(Arrivals(kind=kind, cv=cv), 5.0, 0.0, 40_000.0, rng, FLAT))


@pytest.mark.parametrize(("kind", "cv"), [("poisson", 1.0), ("gamma", 2.0), ("gamma", 0.5), ("weibull", 1.8)])
def test_gaps_have_the_rate_and_variation_asked_for(kind: str, cv: float) -> None:
    gaps = gaps_of(kind, cv)
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_constant_arrivals_do_not_vary() -> None:
    assert gaps_of("constant", 1.0).std() < 1e-6


def test_weibull_shape_inverts_the_variation() -> None:
    for k in (0.45, 1.0, 2.5):
        rng = np.random.default_rng(0)
        sample = rng.weibull(k, 400_000)
        assert weibull_shape(float(sample.std() / sample.mean())) == pytest.approx(k, rel=0.02)


def test_bursts_have_the_lengths_asked_for() -> None:
    from envelope.logs.describe import burstiness

    arrivals = Arrivals(kind="on_off", on_s=9.0, off_s=27.0)
    times = start_times(arrivals, 2.5, 0.0, 200_000.0, np.random.default_rng(3), FLAT)
    b = burstiness(times)
    assert len(times) / 200_000 == pytest.approx(2.5, rel=0.05)
    assert b.on_frac == pytest.approx(0.25, abs=0.04)
    assert b.gap_cv > 4
    assert b.autocorrelation_1s > 0.5


def test_the_rate_follows_the_curve() -> None:
    weights = np.array([0.2, 1.8])
    times = start_times(Arrivals(), 1.0, 0.0, 40 * 3600.0, np.random.default_rng(5), weights)
    odd = (times // 3600).astype(int) % 2 == 1
    assert odd.mean() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("preset", load_all(WorkloadPreset, "workloads"), ids=lambda p: p.id)
def test_draws_have_the_mean_of_their_distribution(preset: WorkloadPreset) -> None:
    d = preset.task.output_tokens
    values = draw(d, np.random.default_rng(1), 200_000)
    unlimited = d.model_copy(update={"min": 0.0, "max": None})
    assert draw(unlimited, np.random.default_rng(1), 400_000).mean() == pytest.approx(mean_of(d), rel=0.05)
    assert values.min() >= d.min


def agents(**changes: object) -> Workload:
    task = {"id": "agent", "preset": "coding-agent"}
    return validate(Workload, {"tasks": [task], "requests_per_day": 200_000, **changes}, "w")


def test_agent_sessions_look_like_the_recorded_ones() -> None:
    """WEKA: input p50 99 k, p90 194 k; output p50 218; most of a prompt is the context of the call before."""
    made = generate(agents(), seed=1, window=Window(0.0, 2 * 3600.0), flat=True)
    assert np.median(made.output_tokens) == pytest.approx(218, rel=0.1)
    assert 60_000 < np.median(made.input_tokens) < 140_000
    follow = np.flatnonzero(made.follows)
    before = np.full(len(made), -1)
    before[made.follower[made.follower >= 0]] = np.flatnonzero(made.follower >= 0)
    same = made.chain[follow] == made.chain[before[follow]]
    context = made.input_tokens[before[follow]] + made.output_tokens[before[follow]]
    assert (made.input_tokens[follow][same] > context[same]).all()
    assert context[same].sum() / made.input_tokens[follow][same].sum() > 0.9


def test_the_window_is_full_of_sessions_from_its_first_minute() -> None:
    made = generate(agents(), seed=2, window=Window(0.0, 3600.0))
    first = made.arrival_s[~made.follows]
    assert (first < 60).sum() > 20


def test_common_random_numbers_one_class_does_not_disturb_another() -> None:
    chat = {"id": "chat", "preset": "chat", "share": 1}
    alone = validate(Workload, {"tasks": [chat], "requests_per_day": 50_000}, "w")
    both = validate(
        Workload, {"tasks": [chat, {"id": "b", "preset": "reasoning", "share": 1}], "requests_per_day": 100_000}, "w"
    )
    window = Window(0.0, 1800.0)
    a, b = generate(alone, seed=4, window=window), generate(both, seed=4, window=window)
    rows = b.task == 0
    np.testing.assert_array_equal(a.input_tokens, b.input_tokens[rows])
    np.testing.assert_array_equal(a.arrival_s, b.arrival_s[rows])


def test_shares_are_kept_and_sessions_keep_their_sensitivity() -> None:
    tasks = [
        {"id": "chat", "preset": "chat", "share": 3, "sensitivity": {"private": 0.2, "internal": 0.5, "public": 0.3}},
        {"id": "tutor", "preset": "tutoring", "share": 1, "sensitivity": {"private": 0.5, "public": 0.5}},
    ]
    made = generate(
        validate(Workload, {"tasks": tasks, "requests_per_day": 2_000_000}, "w"), seed=1, window=Window(0.0, 1800.0)
    )
    assert np.mean(made.task == 0) == pytest.approx(0.75, abs=0.05)
    assert np.mean(made.sensitivity[made.task == 0] == 2) == pytest.approx(0.2, abs=0.02)
    for chain in np.unique(made.chain[made.task == 1])[:50]:
        assert len(set(made.sensitivity[made.chain == chain])) == 1


def test_busiest_hour_is_lengthened_for_little_work_and_cut_for_much() -> None:
    little, much = agents(requests_per_day=100), agents(requests_per_day=10**8)
    assert window_of(little, max_requests=20_000).span_s == 86_400.0
    window = window_of(much, max_requests=20_000)
    assert window.span_s * much.peak_rate_per_s == pytest.approx(20_000)


def of_clients(**changes: object) -> Workload:
    clients = {"count": 50, "zipf": 1.1, **changes}
    task = {"id": "chat", "preset": "reasoning", "clients": clients}
    return validate(Workload, {"tasks": [task], "requests_per_day": 4_000_000}, "w")


def test_few_clients_send_most_requests_and_each_has_its_own_lengths() -> None:
    """ServeGen: the busiest tenth sends 60 % (reasoning); 75 % of the input variance lies between clients."""
    shares = []
    for seed in range(8):
        made = generate(of_clients(length_variance_frac=0.75), seed=seed, window=Window(0.0, 1800.0))
        counts = np.sort(np.bincount(made.seat, minlength=50))[::-1]
        assert 0.45 < counts[:5].sum() / counts.sum() < 0.75
        logs = np.log(made.input_tokens)
        means = np.array([logs[made.seat == c].mean() for c in range(50)])
        within = np.mean([logs[made.seat == c].var() for c in range(50)])
        shares.append(means.var() / (means.var() + within))
    assert np.mean(shares) == pytest.approx(0.75, abs=0.1)


def test_clients_leave_the_distribution_over_all_of_them_alone() -> None:
    made = [generate(of_clients(zipf=0, count=5000), seed=s, window=Window(0.0, 1200.0)) for s in (1, 2)]
    tokens = np.concatenate([m.output_tokens for m in made])
    assert np.median(tokens) == pytest.approx(792, rel=0.05)
    assert np.quantile(tokens, 0.9) == pytest.approx(3432, rel=0.07)


def test_own_arrivals_keep_the_rate() -> None:
    made = generate(of_clients(own_arrivals=True), seed=1, window=Window(0.0, 1800.0))
    assert len(made) / 1800 == pytest.approx(4_000_000 / 86_400, rel=0.05)
    assert (np.diff(made.arrival_s) >= 0).all()
