"""The endpoint probe against a real streaming server with known delays."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from envelope.errors import InputError
from envelope.sensors.endpoint_budget import Budget, Caps
from envelope.sensors.endpoint_client import Endpoint, ask
from envelope.sensors.endpoint_load import LoadPlan, probe_endpoint, prompt_of, quantiles, reserved_input
from envelope.sensors.endpoint_profile import hosted_record, measured_latency
from envelope.spec.hosted import HostedModel
from envelope.spec.load import validate
from envelope.spec.yaml_text import parse_yaml, to_yaml

PLENTY = Caps(max_requests=1000, max_tokens=10**7)


def quiet(_share: float, _what: str) -> None:
    pass


def run(server, caps=PLENTY, *, concurrencies=(1, 3), prompts=(20,), output=6, requests=3):
    plan = LoadPlan(concurrencies, prompts, output, requests)
    return probe_endpoint(Endpoint(server.url, "m", timeout_s=10.0), plan, caps, quiet, date="2026-11-23")


def test_known_delays_are_measured(server) -> None:
    server.ttft_s, server.gap_s = 0.12, 0.03
    reply = ask(Endpoint(server.url, "m"), "hello", 8)
    assert reply.outcome == "ok"
    assert reply.output_tokens == 8
    assert len(reply.gaps_s) == 7
    # Sleeping takes at least as long as asked; the upper bounds leave room for a busy machine.
    assert 0.12 <= reply.ttft_s < 0.12 + 0.25
    assert sum(reply.gaps_s) / 7 == pytest.approx(0.03, rel=0.8)
    assert reply.tpot_s == pytest.approx(sum(reply.gaps_s) / 7, rel=1e-6)


def test_levels_report_what_was_sent_and_run_at_once(server) -> None:
    result = run(server)
    assert [level.concurrency for level in result.levels] == [1, 3]
    assert result.levels[1].completed == 3
    assert 2 <= server.most_in_flight <= 3
    assert result.requests == len(server.requests) == 7  # one to warm up
    assert result.complete
    assert result.levels[0].output_tokens_mean == 6
    assert result.input_tokens == sum(len(r["messages"][0]["content"].split()) + 7 for r in server.requests)
    assert result.output_tokens == 7 * 6
    assert result.levels[0].ttft.p50_s >= 0.05


def test_prompts_never_share_a_beginning(server) -> None:
    run(server)
    firsts = {r["messages"][0]["content"].split()[0] for r in server.requests}
    assert len(firsts) == len(server.requests)
    assert abs(len(prompt_of(200, 1).split()) - 200) <= 8


def test_a_server_that_does_not_count_tokens_is_counted_by_pieces(server) -> None:
    server.counts_usage = False
    result = run(server)
    assert result.levels[0].output_tokens_mean == 6
    assert result.levels[0].input_tokens_mean == 20


def test_too_many_requests_are_waited_for_and_reported(server) -> None:
    server.refuse_first = 3
    result = run(server, concurrencies=(1,))
    assert result.levels[0].completed == 3
    assert sum(level.rate_limited for level in result.levels) <= 3
    assert result.retry_after_s == 0.05
    assert result.limits["x-ratelimit-limit-requests"] == "60"
    assert len(server.requests) == 7


def test_a_server_that_always_refuses_is_given_up_on(server) -> None:
    server.refuse_first = 10**6
    result = run(server, concurrencies=(2,), requests=2)
    assert result.levels[0].completed == 0
    assert result.levels[0].rate_limited == 2 * 4
    assert result.output_tokens == 0
    with pytest.raises(InputError, match="no request was answered"):
        measured_latency(result)


def test_a_dropped_connection_is_counted_and_not_timed(server) -> None:
    server.drop_after_pieces = 2
    result = run(server, concurrencies=(1,), requests=2)
    level = result.levels[0]
    assert (level.completed, level.dropped) == (0, 2)
    assert level.ttft is None


def test_nobody_listens(server) -> None:
    reply = ask(Endpoint("http://127.0.0.1:9/v1", "m", timeout_s=2.0), "hello", 2)
    assert reply.outcome == "dropped"


def test_a_certificate_that_is_not_trusted_is_a_clear_error(tls_server, authority, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"certificate: .*self-signed certificate; if .*export SSL_CERT_FILE="):
        run(tls_server)
    assert tls_server.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    result = run(tls_server, concurrencies=(2,))
    assert result.complete
    assert result.levels[0].completed == 3


def test_the_handshake_is_no_part_of_the_time_to_first_token(tls_server, authority, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    tls_server.handshake_s, tls_server.ttft_s = 1.5, 0.05
    reply = ask(Endpoint(tls_server.url, "m"), "hello", 2)
    assert reply.outcome == "ok"
    assert 0.05 <= reply.ttft_s < 1.4


def test_a_stream_that_is_no_longer_wanted_ends_with_its_next_piece(server) -> None:
    server.gap_s = 0.05
    stop = threading.Event()
    threading.Timer(0.4, stop.set).start()
    reply = ask(Endpoint(server.url, "m"), "hello", 400, stop=stop)
    assert reply.outcome == "dropped"
    assert 0 < reply.output_tokens < 200
    assert reply.detail == "stopped"


def test_a_server_that_is_not_there_or_refuses_the_key_ends_the_probe_at_once(server) -> None:
    plan = LoadPlan((4,), (20,), 6, 8)
    with pytest.raises(InputError, match="cannot be reached"):
        probe_endpoint(Endpoint("http://127.0.0.1:9/v1", "m", timeout_s=2.0), plan, PLENTY, quiet, date="2026-11-23")
    server.status = 401
    with pytest.raises(InputError, match="does not accept the key"):
        run(server)
    assert len(server.requests) == 1


def test_a_wait_that_is_given_as_a_date_or_is_too_long(server) -> None:
    server.refuse_first = 1
    server.retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    reply = ask(Endpoint(server.url, "m"), "hello", 2)
    assert reply.outcome == "rate_limited"
    assert 10 < reply.retry_after_s <= 20
    server.refuse_first, server.retry_after = 10**6, "3600"
    result = run(server, concurrencies=(2,), requests=2)
    # Nobody waits for an hour, and nobody asks again before.
    assert result.levels[0].rate_limited == 2
    assert result.retry_after_s == 3600


@pytest.mark.parametrize(
    ("caps", "limit"),
    [
        (Caps(max_requests=4, max_tokens=10**7), "4 requests"),
        (Caps(max_requests=100, max_tokens=300), "300 tokens"),
        (Caps(100, 10**7, max_usd=0.002, input_usd_per_mtok=10.0, output_usd_per_mtok=20.0), "$0.002"),
    ],
)
def test_caps_hold(server, caps: Caps, limit: str) -> None:
    result = run(server, caps, concurrencies=(4,), requests=20)
    assert result.stopped_by == limit
    assert not result.complete
    assert result.requests <= caps.max_requests
    assert len(server.requests) == result.requests
    assert result.input_tokens + result.output_tokens <= caps.max_tokens
    if caps.max_usd is not None:
        assert 0 < result.usd <= caps.max_usd


def test_a_request_is_not_sent_when_its_worst_case_breaks_the_cap() -> None:
    budget = Budget(Caps(max_requests=10, max_tokens=100))
    assert budget.reserve(60, 20)
    assert not budget.reserve(10, 20)
    budget.settle((60, 20), (5, 5))
    assert budget.reserve(10, 20)
    assert (budget.requests, budget.input_tokens, budget.output_tokens) == (2, 15, 25)


def test_the_plan_bounds_what_is_used(server) -> None:
    plan = LoadPlan((1, 3), (20, 50), 6, 3)
    requests, inputs, outputs = plan.worst_case()
    result = run(server, prompts=(20, 50))
    assert result.requests == requests
    assert result.input_tokens <= inputs
    assert result.output_tokens <= outputs
    assert reserved_input(100) >= 150


def test_the_key_goes_to_the_server_and_nowhere_else(server, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    endpoint = Endpoint(server.url, "m", "MY_KEY")
    server.status = 500
    reply = ask(endpoint, "hello", 2)
    assert server.headers[-1]["Authorization"] == "Bearer sk-very-secret"
    assert reply.outcome == "error"
    server.status = 200
    result = probe_endpoint(endpoint, LoadPlan((1,), (20,), 3, 2), PLENTY, quiet, date="2026-11-23")
    for shown in (repr(reply), repr(endpoint), result.model_dump_json(), *capsys.readouterr()):
        assert "secret" not in shown


@pytest.mark.parametrize(
    ("url", "variable", "message"),
    [
        ("ftp://host/v1", None, "must be an http or https address"),
        ("http://127.0.0.1/v1", "ABSENT_KEY", "is empty"),
        ("http://example.org/v1", "MY_KEY", "unencrypted"),
        ("https://example.org/v1?key=abc", None, "must hold no key"),
    ],
)
def test_unsafe_endpoints_are_refused_before_anything_is_sent(url, variable, message, monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-1")
    with pytest.raises(InputError, match=message) as caught:
        Endpoint(url, "m", variable).check()
    assert "abc" not in str(caught.value)


def test_a_hosted_record_comes_out_and_loads(server) -> None:
    server.ttft_s, server.gap_s = 0.05, 0.02
    result = run(server, prompts=(20, 400))
    record = hosted_record(result, "own-probed", like=None, prices=(1.0, 2.0))
    again = validate(HostedModel, parse_yaml(to_yaml(record), "x"), "x")
    assert again == record
    assert record.source_of("latency").evidence == "measured"
    assert record.source_of("tariff").evidence == "assumed"
    assert record.latency.output_tokens_per_s_p50 == pytest.approx(1 / 0.022, rel=0.5)
    like = hosted_record(result, "other", like=record, prices=None)
    assert like.tariff == record.tariff
    assert like.id == "other"


def test_quantiles_of_nothing_and_of_one() -> None:
    assert quantiles([]) is None
    assert quantiles([2.0]).sigma_ln == 0.0
