"""Reading logs: each format by a small sample in its own words, real traces whole."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from envelope.errors import InputError
from envelope.logs import Usage, describe, fit_twin, read_log, requests_of, workload_of_usage
from envelope.serving.arrivals import Window, generate
from envelope.serving.fleet import Fleet, PoolConfig, ReplicaConfig
from envelope.serving.kernel import layout as k
from envelope.serving.prefixes import reuse_frac
from envelope.serving.run import run_once
from tests.serving.conftest import realistic_tables

TRACES = Path(__file__).parents[3] / "shared" / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="the sample traces are not beside the repository")


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


OTLP = {
    "resourceSpans": [{"scopeSpans": [{"spans": [
        {"startTimeUnixNano": str(10**18 + i * 10**9), "endTimeUnixNano": str(10**18 + i * 10**9 + 2 * 10**9),
         "attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "100"}},
                        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": str(10 + i)}},
                        {"key": "gen_ai.usage.cache_read.input_tokens", "value": {"intValue": "64"}},
                        {"key": "gen_ai.conversation.id", "value": {"stringValue": "c1"}},
                        *([{"key": "error.type", "value": {"stringValue": "429"}}] if i == 2 else [])]}
        for i in range(3)
    ]}]}]
}  # fmt: skip

CLAUDE = [
    {"type": "user", "sessionId": "s", "message": {"role": "user", "content": "hi"}},
    *[
        {"timestamp": f"2026-01-01T00:00:0{second}.000Z", "sessionId": "s", "requestId": request,
         "message": {"id": request, "model": "m", "usage": {"input_tokens": 5, "output_tokens": out,
                     "cache_creation_input_tokens": 100, "cache_read_input_tokens": 1000}}}
        for second, request, out in ((1, "a", 1), (1, "a", 40), (9, "b", 7))
    ],
]  # fmt: skip

LITELLM = (
    "request_id,startTime,endTime,completionStartTime,prompt_tokens,completion_tokens,model,status,metadata\n"
    '1,2026-01-01 00:00:00,2026-01-01 00:00:05,2026-01-01 00:00:01,100,20,m,success,"{""usage_object"": '
    '{""prompt_tokens_details"": {""cached_tokens"": 64}}}"\n'
    "2,2026-01-01 00:00:10,2026-01-01 00:00:11,2026-01-01 00:00:11,50,5,m,success,{}\n"
    "3,2026-01-01 00:00:12,2026-01-01 00:00:12,,50,0,m,failure,{}\n"
)

SAMPLES = {
    "azure_llm_csv": ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
                      "2023-11-16 18:17:04.0320550,3180,8\n", (2, 0, 4808, 18)),
    "burstgpt_csv": ("b.csv", "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
                     "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n",
                     (1, 1, 472, 18)),
    "splitwise_vidur_csv": ("v.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,100,5\n1.5,200,6\n",
                            (2, 0, 100, 11)),
    "mooncake_jsonl": ("m.jsonl", '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'
                       '{"timestamp": 3000, "input_length": 700, "output_length": 6, "hash_ids": [1, 3]}\n',
                       (2, 0, 600, 11)),
    "bailian_jsonl": ("q.jsonl", '{"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 20, '
                      '"output_length": 3, "turn": 1, "hash_ids": [7]}\n{"chat_id": 2, "parent_chat_id": 1, '
                      '"timestamp": 9.5, "input_length": 40, "output_length": 4, "turn": 2, "hash_ids": [7, 8]}\n',
                      (2, 0, 20, 7)),
    "litellm_spend_logs": ("l.csv", LITELLM, (2, 1, 100, 25)),
    "openrouter_activity_csv": ("o.csv", "generation_id,created_at,tokens_prompt,tokens_completion,tokens_cached,"
                                "model_permaslug,cancelled,generation_time_ms,time_to_first_token_ms\n"
                                "g,2026-06-28 03:46:57.713,900,30,512,x/y,false,2500,700\n", (1, 0, 900, 30)),
    "langfuse_observations": ("f.jsonl", json.dumps({
        "id": "1", "type": "GENERATION", "startTime": "2026-01-01T00:00:00Z", "model": "m", "latency": 2.5,
        "timeToFirstToken": 0.5, "usageDetails": {"input": 100, "output": 9, "cache_read_input_tokens": 50}}) + "\n"
        + json.dumps({"id": "2", "type": "SPAN", "startTime": "2026-01-01T00:00:00Z", "usageDetails": {}}) + "\n",
        (1, 0, 150, 9)),
    "otel_genai_spans": ("t.json", json.dumps(OTLP), (2, 1, 100, 21)),
    "claude_code_local": ("c.jsonl", "\n".join(json.dumps(r) for r in CLAUDE) + "\n", (2, 0, 1105, 47)),
    "weka_session_json": ("w.jsonl", json.dumps({
        "id": "s", "block_size": 64, "hash_id_scope": "local", "requests": [
            {"t": 0, "type": "s", "model": "m", "in": 130, "out": 9, "hash_ids": [1, 2], "ttft": 1.0, "api_time": 2.0},
            {"t": 8, "type": "subagent", "requests": [
                {"t": 1, "type": "n", "model": "m", "in": 70, "out": 4, "hash_ids": [9], "api_time": 1.0}]}]}) + "\n",
        (2, 0, 130, 13)),
    "plain_csv": ("p.csv", "created_at,tokens_prompt,tokens_completion\n2026-01-01T00:00:00Z,10,2\n"
                  "2026-01-01T00:00:01Z,11,3\n", (2, 0, 10, 5)),
}  # fmt: skip
"""Format → file name, content, (requests, failures, first input, all output tokens)."""


@pytest.mark.parametrize("name", list(SAMPLES))
def test_each_format_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    file, text, (requests, failures, first, output) = SAMPLES[name]
    trace = read_log(written(tmp_path, file, text))
    assert trace.format == name
    assert (len(trace), trace.failures) == (requests, failures)
    assert trace.input_tokens[0] == first
    assert trace.output_tokens.sum() == output
    describe(trace)
    requests_of(trace)


def sample(tmp_path: Path, name: str):
    file, text, _ = SAMPLES[name]
    return read_log(written(tmp_path, file, text))


def test_times_latencies_and_caches_are_kept(tmp_path: Path) -> None:
    azure = sample(tmp_path, "azure_llm_csv")
    assert azure.arrival_s[1] == pytest.approx(0.052095, abs=1e-6)
    spend = sample(tmp_path, "litellm_spend_logs")
    assert spend.ttft_s[0] == 1.0
    assert np.isnan(spend.ttft_s[1]), "an answer that was not streamed has no time to first token"
    assert list(spend.e2e_s) == [5.0, 1.0]
    assert list(spend.cached_input_tokens) == [64, 0]
    router = sample(tmp_path, "openrouter_activity_csv")
    assert (router.ttft_s[0], router.e2e_s[0]) == (0.7, 2.5)
    weka = sample(tmp_path, "weka_session_json")
    assert list(weka.arrival_s) == [0.0, 9.0]
    assert weka.session[0] != weka.session[1]
    assert sample(tmp_path, "claude_code_local").output_tokens[0] == 40, "the last block of a message counts"


def test_sessions_become_closed_loops(tmp_path: Path) -> None:
    trace = sample(tmp_path, "bailian_jsonl")
    made = requests_of(trace, closed_sessions=True)
    assert list(made.follower) == [1, -1]
    assert made.gap_s[1] == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.csv", "a,b\n1,2\n", "no column for arrival_s"),
        ("x.csv", "", "has no rows"),
        ("x.csv", "arrival_s,input_tokens,output_tokens\nnoon,1,2\n", "is not a time"),
        ("x.csv", "arrival_s,input_tokens,output_tokens\n1,1,0\n", "no requests that were answered"),
        ("x.json", "{", "neither CSV nor JSON"),
        ("x.jsonl", '{"foo": 1}\n', "no known format"),
    ],
)
def test_a_bad_log_is_refused_with_the_reason(name: str, text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_log(written(tmp_path, name, text))


def test_missing_files_unknown_formats_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_log(tmp_path / "none.csv")
    path = written(tmp_path, "p.csv", "when,tokens_prompt,tokens_completion\n5,10,2\n")
    with pytest.raises(InputError, match="nearest 'plain_csv'"):
        read_log(path, format="plaincsv")
    with pytest.raises(InputError, match="no such column"):
        read_log(path, mapping={"arrival_s": "wen"})
    assert len(read_log(path, mapping={"arrival_s": "when"})) == 1


def test_time_units_are_guessed_and_said_and_can_be_given(tmp_path: Path) -> None:
    rows = "\n".join(f"{i * 5000},10,2" for i in range(30))
    path = written(tmp_path, "p.csv", "timestamp,prompt_tokens,completion_tokens\n" + rows)
    guessed = read_log(path)
    assert guessed.span_s == pytest.approx(145.0)
    assert "milliseconds" in guessed.notes[0]
    assert read_log(path, time_unit="s").span_s == pytest.approx(145_000.0)


OPENAI = (
    "start_time,end_time,num_model_requests,model,input_tokens,output_tokens,input_cached_tokens\n"
    "1767225600,1767229200,100,m,200000,30000,50000\n1767229200,1767232800,300,m,500000,60000,0\n"
)
ANTHROPIC = (
    "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
    "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens\n"
    "2026-01-01,m,1000,2000,0,97000,1000\n2026-01-02,m,1000,2000,0,97000,1000\n"
)


def test_usage_exports_give_rates_and_means_and_name_the_shape(tmp_path: Path) -> None:
    usage = read_log(written(tmp_path, "u.csv", OPENAI))
    assert isinstance(usage, Usage)
    assert usage.requests_per_day == pytest.approx(400 * 12)
    assert usage.hourly[0] == 100
    work = workload_of_usage(usage, "chat")
    assert "azure_llm_2023" in work.note.lower() or "AzureLLM" in work.note
    made = generate(work, seed=1, window=Window(0.0, 40 * 3600.0))
    assert made.input_tokens.mean() == pytest.approx(700_000 / 400, rel=0.05)
    assert made.output_tokens.mean() == pytest.approx(90_000 / 400, rel=0.05)
    other = read_log(written(tmp_path, "c.csv", ANTHROPIC))
    assert other.requests is None
    assert other.cached_input_tokens / other.input_tokens == pytest.approx(0.97)
    assert workload_of_usage(other, "coding-agent").daily_requests > 0


REAL = {
    "azure_llm_2023_code.csv.gz": dict(requests=8819, input=1469.0, output=27.88, cv=13.15, arrivals="on_off"),
    "azure_llm_2023_conv.csv.gz": dict(requests=19366, input=1020.0, output=211.13, cv=1.09, arrivals="poisson"),
    "mooncake_synthetic.jsonl.gz": dict(requests=3993, output=149.1, cv=1.01, reuse=0.65, arrivals="poisson"),
    "mooncake_conversation_first6000.jsonl.gz": dict(requests=6000, quantum=3.0, cv=1.01, arrivals="poisson"),
}
"""Statistics published for, or computed independently from, the traces."""


@needs_traces
@pytest.mark.parametrize("name", list(REAL))
def test_real_traces_have_their_known_statistics(name: str) -> None:
    known = REAL[name]
    trace = read_log(TRACES / name)
    d = describe(trace)
    assert d.requests == known["requests"]
    assert d.burstiness.gap_cv == pytest.approx(known["cv"], rel=0.03)
    assert d.clock_quantum_s == known.get("quantum")
    if "input" in known:
        assert d.input_tokens.p50 == known["input"]
    if "output" in known:
        assert d.output_tokens.mean == pytest.approx(known["output"], abs=0.05)
    if "reuse" in known:
        assert d.prefix_reuse_frac == pytest.approx(known["reuse"], abs=0.01)


@needs_traces
@pytest.mark.parametrize("name", list(REAL))
def test_the_twin_matches_the_trace(name: str) -> None:
    trace = read_log(TRACES / name)
    work = fit_twin(trace)
    assert work.arrivals.kind == REAL[name]["arrivals"]
    made = generate(work, seed=3, window=Window(0.0, 3 * trace.span_s))
    assert len(made) / 3 == pytest.approx(len(trace), rel=0.25)
    for drawn, real in ((made.input_tokens, trace.input_tokens), (made.output_tokens, trace.output_tokens)):
        assert largest_distance(drawn, real) < 0.08
    assert made.input_tokens.mean() == pytest.approx(trace.input_tokens.mean(), rel=0.15)
    if trace.hash_ids is not None:
        once = generate(work, seed=4, window=Window(0.0, trace.span_s))
        assert reuse_frac(once) == pytest.approx(describe(trace).prefix_reuse_frac, abs=0.03)


@needs_traces
def test_the_twin_has_the_slow_changes_of_the_rate() -> None:
    """Variance over mean of the requests per ten minutes: 1 for Poisson arrivals, far more in an hour of Azure's."""
    trace = read_log(TRACES / "azure_llm_2023_conv.csv.gz")

    def dispersion(times: np.ndarray, span_s: float) -> float:
        counts = np.bincount((times // 600.0).astype(np.int64))[: int(span_s // 600.0)]
        return float(counts.var(ddof=1) / counts.mean())

    span_s = 40 * 3600.0
    made = generate(fit_twin(trace), seed=3, window=Window(0.0, span_s))
    recorded = dispersion(trace.arrival_s, trace.span_s)
    assert recorded > 20
    assert dispersion(made.arrival_s, span_s) == pytest.approx(recorded, rel=0.35)


def largest_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov–Smirnov distance."""
    at = np.unique(np.concatenate([a, b]))
    upto = [np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b)]
    return float(np.abs(upto[0] - upto[1]).max())


def big_replica(cache: bool) -> Fleet:
    replica = ReplicaConfig(
        steps=realistic_tables(seqs=256, tokens=8192), max_num_seqs=256, max_num_batched_tokens=8192,
        kv_blocks=60_000, prefix_cache=cache,
    )  # fmt: skip
    return Fleet(pools=(PoolConfig(replica=replica, replicas=4),))


@needs_traces
def test_agent_sessions_hit_the_cache_as_often_as_recorded(tmp_path: Path) -> None:
    """The WEKA statistics say 91–96 % of the prompt tokens; an unlimited cache must come out there."""
    with gzip.open(TRACES / "claude_code_weka_64sessions.jsonl.gz", "rt") as file:
        lines = file.readlines()[:12]
    trace = read_log(written(tmp_path, "part.jsonl", "".join(lines)))
    d = describe(trace)
    assert d.prefix_reuse_frac == pytest.approx(0.95, abs=0.04)
    fleet = Fleet(
        pools=(
            PoolConfig(
                replica=ReplicaConfig(
                    steps=realistic_tables(seqs=256, tokens=8192), max_num_seqs=256, max_num_batched_tokens=8192,
                    kv_blocks=3_000_000, prefix_cache=True,
                )
            ),
        )
    )  # fmt: skip
    requests = requests_of(trace, closed_sessions=True)
    run = run_once(fleet, requests)
    done = run.rq[:, k.Q_STATUS] == k.STATUS_DONE
    assert run.rq[done, k.Q_HIT].sum() / requests.input_tokens[done].sum() == pytest.approx(
        d.prefix_reuse_frac, abs=0.03
    )


@needs_traces
def test_a_heavier_machine_is_not_slower_on_the_whole_trace() -> None:
    requests = requests_of(read_log(TRACES / "azure_llm_2023_code.csv.gz"))
    slow, fast = big_replica(False), big_replica(False)
    fast = Fleet(pools=(PoolConfig(replica=fast.pools[0].replica, replicas=8),))
    times = [float(np.mean(run_once(f, requests).rx[:, k.F_FIRST] - requests.arrival_s)) for f in (slow, fast)]
    assert times[1] < times[0]
