"""Other shapes of the same logs: vLLM spans, folders of transcripts, API answers instead of exports, twins of sessions."""

import json
from pathlib import Path

import numpy as np
import pytest

from envelope.logs import Usage, describe, fit_twin, read_log, workload_of_usage
from envelope.serving.arrivals import Window, generate

TRACES = Path(__file__).parents[3] / "shared" / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="the sample traces are not beside the repository")


def test_vllm_spans_bring_their_latencies(tmp_path: Path) -> None:
    spans = [
        {
            "name": "llm_request", "start_time": f"2026-03-01T10:00:0{i}Z", "end_time": f"2026-03-01T10:00:0{i + 2}Z",
            "attributes": {
                "gen_ai.usage.prompt_tokens": 100 + i, "gen_ai.usage.completion_tokens": 20,
                "gen_ai.latency.time_to_first_token": 0.25, "gen_ai.latency.e2e": 1.5,
                "gen_ai.response.model": "qwen3-32b",
            },
        }
        for i in range(3)
    ]  # fmt: skip
    path = tmp_path / "spans.json"
    path.write_text(json.dumps({"spans": spans}), encoding="utf-8")
    trace = read_log(path)
    assert trace.format == "otel_genai_spans"
    assert list(trace.input_tokens) == [100, 101, 102]
    assert list(trace.arrival_s) == [0.0, 1.0, 2.0]
    assert set(trace.ttft_s) == {0.25}
    assert set(trace.e2e_s) == {1.5}


def test_a_folder_of_transcripts_is_read_with_its_subagents(tmp_path: Path) -> None:
    def line(second: int, ident: str, *, side: bool) -> str:
        usage = {
            "input_tokens": 3,
            "output_tokens": 9,
            "cache_creation_input_tokens": 50,
            "cache_read_input_tokens": 947,
        }
        message = {"id": ident, "model": "m", "usage": usage}
        record = {
            "timestamp": f"2026-01-01T00:00:{second:02d}Z",
            "sessionId": "s",
            "requestId": ident,
            "message": message,
        }
        return json.dumps({**record, "isSidechain": side})

    (tmp_path / "p" / "subagents").mkdir(parents=True)
    (tmp_path / "p" / "s.jsonl").write_text(line(0, "a", side=False) + "\n" + line(20, "b", side=False) + "\n")
    (tmp_path / "p" / "subagents" / "agent-1.jsonl").write_text(line(5, "c", side=True) + "\n")
    trace = read_log(tmp_path)
    # Input leaves the cache out in the transcript: 3 + 50 + 947.
    assert list(trace.input_tokens) == [1000, 1000, 1000]
    assert list(trace.cached_input_tokens) == [947] * 3
    assert trace.session[0] == trace.session[2] != trace.session[1]


def test_the_answers_of_the_usage_api_are_read_like_the_export(tmp_path: Path) -> None:
    result = {"num_model_requests": 50, "input_tokens": 100_000, "output_tokens": 10_000, "input_cached_tokens": 20_000}
    buckets = [{"start_time": 3600 * h, "end_time": 3600 * (h + 1), "results": [result]} for h in range(24)]
    path = tmp_path / "usage.json"
    path.write_text(json.dumps({"object": "page", "data": buckets}), encoding="utf-8")
    usage = read_log(path)
    assert isinstance(usage, Usage)
    assert usage.requests_per_day == pytest.approx(1200)
    work = workload_of_usage(usage, "chat")
    assert work.daily_requests == pytest.approx(1200)
    assert "chat" in work.note


@needs_traces
def test_the_twin_of_agent_sessions_has_their_calls_and_lengths() -> None:
    trace = read_log(TRACES / "claude_code_weka_64sessions.jsonl.gz")
    found = describe(trace)
    made = generate(fit_twin(trace, found), seed=3, window=Window(0.0, 40 * 86_400.0))
    calls = len(made) / np.sum(~made.follows)
    assert calls == pytest.approx(found.sessions.calls.mean, rel=0.2)
    assert np.percentile(made.output_tokens, 50) == pytest.approx(found.output_tokens.p50, rel=0.05)
    assert np.percentile(made.input_tokens, 50) == pytest.approx(found.input_tokens.p50, rel=0.2)
    assert np.percentile(made.input_tokens, 90) == pytest.approx(found.input_tokens.p90, rel=0.15)
    assert made.input_tokens.mean() == pytest.approx(found.input_tokens.mean, rel=0.15)


def test_a_fortnight_shows_its_days_and_weekends(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    monday = 1_767_571_200  # 2026-01-05 00:00 UTC
    hours = np.arange(14 * 24)
    rate = np.where((hours % 24 >= 8) & (hours % 24 < 18), 30, 3) * np.where(hours // 24 % 7 >= 5, 0.25, 1.0)
    at = np.sort(
        np.concatenate([monday + 3600 * (h + rng.random(rng.poisson(n))) for h, n in zip(hours, rate, strict=True)])
    )
    rows = "\n".join(f"{t:.2f},100,10" for t in [monday, *at, monday + 14 * 86_400])
    path = tmp_path / "log.csv"
    path.write_text("timestamp,prompt_tokens,completion_tokens\n" + rows + "\n", encoding="utf-8")
    found = describe(read_log(path))
    assert found.weekend_to_weekday_frac == pytest.approx(0.25, abs=0.04)
    day = np.array(found.hour_weights)
    assert day[8:18].mean() / day[:8].mean() == pytest.approx(10, rel=0.2)
