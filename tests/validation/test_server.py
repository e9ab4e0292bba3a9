"""``validate --server``: the load generator against a server of known delays, and the simulation of the same requests."""

import numpy as np
import pytest

from envelope.errors import EnvelopeError
from envelope.serving.fleet import Fleet, PoolConfig
from envelope.serving.kernel import layout as k
from envelope.serving.run import run_once
from envelope.validation.loads import replica_config, simulated
from envelope.validation.server.load import Measured, send
from envelope.validation.server.model import FIRST_WORD
from envelope.validation.server.plan import FULL_PLAN, QUICK_PLAN, Load, drawn, longest_tokens
from envelope.validation.server.predict import as_asked, predicted_figures, span_s
from envelope.validation.server.run import ServerResult, result_of
from envelope.validation.server.score import verdict
from envelope.validation.server.text import load_rows, page, summary_lines
from envelope.validation.target import Target
from tests.validation.fake_engine import FakeEngine
from tests.validation.served import VOCAB, served, server_of

# The load generator


@pytest.mark.parametrize("chunked", [True, False])
def test_known_delays_are_measured(chunked: bool) -> None:
    with FakeEngine(ttft_s=0.10, gap_s=0.03, chunked=chunked) as engine:
        found = send(server_of(engine), drawn(Load("x", "closed", "score", 3, 20, 6, concurrency=1), 0, 0), 0, 0.0)
    # The piece without text that comes at once is no token. Sleeping takes at least as long as asked.
    assert min(found.ttft_s) >= 0.10
    assert min(found.itl_s()) > 0.02
    assert np.allclose(np.array(found.ttft_s) + 5 * np.array(found.itl_s()), found.e2e_s)
    assert found.output_tokens == (6, 6, 6)
    assert found.span_s >= 3 * (0.10 + 5 * 0.03)
    assert found.output_tokens_per_s == pytest.approx(18 / found.span_s)


def test_prompts_have_the_lengths_and_beginnings_that_were_drawn() -> None:
    work = drawn(Load("x", "burst", "score", 40, 30, 2, spread_frac=0.5, prefix_tokens=16, prefix_share=0.5), 0, 0)
    with FakeEngine(ttft_s=0.01, gap_s=0.01) as engine:
        found = send(server_of(engine), work, 0, 0.0)
    prompts = sorted((b["prompt"] for b in engine.bodies), key=len)
    assert sorted(len(p) for p in prompts) == sorted(work.input_tokens)
    assert found.input_tokens == tuple(work.input_tokens)
    assert {len(set(map(type, p))) for p in prompts} == {1}
    assert all(FIRST_WORD <= token < VOCAB for p in prompts for token in p)
    begins = [tuple(p[:16]) for p in prompts]
    common = max(set(begins), key=begins.count)
    assert begins.count(common) == int((work.shared > 0).sum()) == 20
    # Beyond it no two are alike, so no cache serves more than was said.
    assert len({tuple(p[16:24]) for p in prompts}) == 40
    assert all(b["ignore_eos"] and b["stream"] and b["max_tokens"] == b["min_tokens"] for b in engine.bodies)


def test_a_closed_loop_keeps_its_requests_in_flight_and_poisson_arrivals_do_not_wait() -> None:
    with FakeEngine(ttft_s=0.05, gap_s=0.01) as engine:
        send(server_of(engine), drawn(Load("x", "closed", "score", 12, 8, 4, concurrency=3), 0, 0), 0, 0.0)
        assert engine.most_in_flight == 3
        work = drawn(Load("p", "poisson", "score", 20, 8, 4, rate_frac=0.5), 100.0, 0)
        found = send(server_of(engine), work, 0, 100.0)
        assert engine.most_in_flight > 3
    assert list(found.sent_s) == sorted(found.sent_s)
    assert found.sent_s[-1] > 0.5 * work.arrival_s[-1]
    assert found.rate_per_s == 100.0


def test_waiting_in_line_counts_as_time_to_first_token() -> None:
    with FakeEngine(ttft_s=0.05, gap_s=0.01, slots=1) as engine:
        found = send(server_of(engine), drawn(Load("b", "burst", "score", 5, 8, 3), 0, 0), 0, 0.0)
    # One after the other, each 0.05 s and two gaps.
    assert max(found.ttft_s) >= 4 * (0.05 + 2 * 0.01) + 0.05
    assert found.requests_per_s <= 1 / (0.05 + 2 * 0.01)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("refuse", "status 404: no such model"),
        ("break_off", "broke off an answer"),
        ("short", "must take 'ignore_eos'"),
    ],
)
def test_a_request_that_fails_is_one_clear_error(fault: str, said: str) -> None:
    with FakeEngine(ttft_s=0.01, gap_s=0.01) as engine:
        if fault == "short":
            engine.ignores_eos = False
        else:
            setattr(engine, fault, True)
        with pytest.raises(EnvelopeError, match=said):
            send(server_of(engine), drawn(Load("x", "closed", "score", 4, 8, 6, concurrency=2), 0, 0), 0, 0.0)


def test_every_load_draws_the_same_again_and_every_turn_anew() -> None:
    for plan in (FULL_PLAN, QUICK_PLAN):
        assert {x.role for x in plan} == {"calibrate", "score"}
        assert [x.kind for x in plan].count("burst") == 1
        first = next(at for at, x in enumerate(plan) if x.kind == "poisson")
        assert [x.kind for x in plan[:first]].count("burst") == 1  # its rate is what the Poisson rates are shares of
    one, same, other = (drawn(FULL_PLAN[-1], 2.0, turn) for turn in (0, 0, 1))
    assert one.prompts(VOCAB) == same.prompts(VOCAB)
    assert (one.arrival_s == same.arrival_s).all()
    assert one.prompts(VOCAB)[0] != other.prompts(VOCAB)[0]
    assert max(int((w.input_tokens + w.output_tokens).max()) for w in (one, other)) <= longest_tokens(FULL_PLAN)


# The simulation of the same requests


def test_shared_beginnings_are_computed_once_in_the_simulation() -> None:
    load_, none = (
        Load("p", "burst", "score", 30, 40, 2, prefix_tokens=tokens, prefix_share=1.0) for tokens in (256, 0)
    )
    shared, alone = drawn(load_, 0, 0), drawn(none, 0, 0)
    nodes = shared.requests().node_tokens
    assert nodes.tolist() == [[0, 256]]
    assert alone.requests().node_tokens.size == 0
    target = Target(served().replica(), replicas=1)
    config = replica_config(target, target.tables(), shared.requests())
    done = run_once(Fleet(pools=(PoolConfig(replica=config),)), shared.requests())
    # Two blocks of 128 tokens; the first step, which holds one prompt and part of the next, computes them itself.
    hits = done.rq.reshape(-1, k.Q_SIZE)[:, k.Q_HIT]
    assert (hits == 256).sum() >= 28


def test_a_closed_loop_asks_again_when_the_answer_has_reached_the_client() -> None:
    """At concurrency 1 the span is the sum of what the client waits, request overhead and all."""
    work = drawn(Load("x", "closed", "score", 5, 32, 8, concurrency=1), 0, 0)
    turn = fake_turn(work)
    found = predicted_figures(served(request_overhead_s=0.5), [work], [turn])
    assert found.ttft_s > 0.5
    assert 5 / found.requests_per_s == pytest.approx(5 * found.e2e_s, rel=0.15)


def fake_turn(work, turn=0, ttft=0.1, itl=0.01) -> Measured:
    n = len(work.input_tokens)
    outputs = tuple(int(x) for x in work.output_tokens)
    e2e = tuple(ttft + itl * (x - 1) for x in outputs)
    return Measured(
        load=work.load.id, turn=turn, seed=work.seed, rate_per_s=0.0, sent_s=tuple(work.arrival_s.tolist()),
        asked_tokens=tuple(int(x) for x in work.input_tokens), ttft_s=(ttft,) * n, e2e_s=e2e, longest_gap_s=(itl,) * n, input_tokens=tuple(int(x) for x in work.input_tokens),
        output_tokens=outputs, span_s=float(np.max(work.arrival_s + np.array(e2e))), noise_frac=0.02,
    )  # fmt: skip


def test_what_is_calibrated_on_one_load_predicts_another() -> None:
    """Loads made by the simulation itself, of an engine that is slower than its record: the constants come back."""
    shipped = served()
    truth = shipped.with_engine(
        shipped.engine.changed(
            step_overhead_s=0.02, request_overhead_s=0.05, sequence_overhead_s=1e-3,
            kernel_scale_by_device={shipped.hardware.id: 1.4},
        )
    )  # fmt: skip
    found = {}
    target = Target(truth.replica(), replicas=1)
    plan = [x for x in QUICK_PLAN if x.kind != "poisson"] + [Load("p", "poisson", "score", 20, 96, 40, rate_frac=0.5)]
    for load_ in plan:
        work = drawn(load_, 1.0, 0)
        run = simulated(target, as_asked(work.requests(), target))
        turn = fake_turn(work).changed(
            ttft_s=tuple(run.ttft_s), e2e_s=tuple(run.e2e_s), span_s=span_s(run, work, work.arrival_s)
        )
        found[load_.id] = [(work, turn)]
    result = result_of(
        plan, found, shipped, url="test", version="1", threads=64, complete=True, logged={}, start_s=None
    )
    before, after = result.verdicts
    assert before.median_error_frac["ttft"] > 0.15
    assert not before.met
    assert after.met
    assert after.median_error_frac["ttft"] < 0.03
    assert after.median_error_frac["e2e"] < 0.03
    assert abs(after.saturation_error_frac) < 0.03
    assert result.calibration.kernel_scale.value == pytest.approx(1.4, rel=0.05)
    assert result.calibration.request_overhead_s.value == pytest.approx(0.05, rel=0.15)
    assert result.engine_record.kernel_scale_by_device.keys() == {shipped.hardware.id}
    shown = "\n".join(map(" ".join, load_rows(result))) + "\n".join(summary_lines(result)) + page(result)
    assert "met" in shown
    assert "Poisson at 50 % of saturation" in shown
    assert ServerResult.model_validate_json(result.model_dump_json(exclude_computed_fields=True)) == result


def test_the_verdict_counts_only_scored_loads_below_saturation() -> None:
    base = result_of(
        FULL_PLAN[:1], {FULL_PLAN[0].id: [(w := drawn(FULL_PLAN[0], 0, 0), fake_turn(w))]}, served(), url="t",
        version="1", threads=1, complete=False, logged={}, start_s=None,
    )  # fmt: skip
    assert base.calibration is None  # one concurrency
    assert base.verdicts[0].loads == 0
    assert any("interrupted" in line for line in summary_lines(base))
    row = base.loads[0].changed(role="score")
    assert verdict([row], calibrated=False).loads == 1
    assert verdict([row.changed(below_saturation=False)], calibrated=False).loads == 0
