"""What a trace looks like: lengths, burstiness, daily and weekly shape, prefix reuse, sessions."""

import numpy as np

from envelope.provenance import Frozen
from envelope.serving.prefixes import reuse_frac
from envelope.serving.requests import Floats, Ints
from envelope.serving.result import Spread
from envelope.serving.sketch import spread
from envelope.serving.trace import Trace, requests_of

QUANTA_S = (3600.0, 600.0, 60.0, 30.0, 10.0, 5.0, 3.0, 2.0, 1.0, 0.1)
"""Clock ticks that logs are known to round to."""


class Burstiness(Frozen):
    """How unevenly requests arrive, after spreading those that a coarse clock had put together."""

    gap_cv: float
    """Standard deviation over mean of the gaps between arrivals; 1 is a Poisson process."""
    dispersion_1s: float
    """Variance over mean of the number of arrivals per second; 1 is Poisson."""
    dispersion_60s: float
    autocorrelation_1s: float
    """Correlation of the counts of neighbouring seconds: high means bursts rather than single long gaps."""
    on_frac: float
    """Share of the time within bursts (gaps under 2 s)."""
    on_s: float
    """Mean length of a burst."""
    off_s: float
    """Mean pause between bursts."""


class Sessions(Frozen):
    """Sessions or conversations in the trace."""

    sessions: int
    calls: Spread
    single_call_frac: float
    gap_s: Spread | None
    """Time between the end of a call (its start, if the log has no durations) and the next one."""
    appended_tokens: Spread | None
    """Tokens that a later call adds to prompt plus answer of the one before."""


class TraceDescription(Frozen):
    """Statistics of a trace."""

    format: str
    requests: int
    failures: int
    span_s: float
    requests_per_day: float
    models: dict[str, int]
    input_tokens: Spread
    output_tokens: Spread
    input_to_output: float
    """Prompt tokens per output token, over all requests."""
    length_correlation: float
    """Rank correlation (Spearman) of input and output lengths."""
    context_fit_frac: dict[str, float]
    """Share of the requests whose prompt and answer fit a context of so many tokens."""
    clock_quantum_s: float | None
    """Tick to which the log's clock is rounded, if any; bursts within it cannot be seen."""
    burstiness: Burstiness | None
    """``None`` with fewer than 20 requests, or if the sessions have no common clock."""
    hour_weights: tuple[float, ...] | None
    """Requests by hour of the day (UTC) over their mean; needs dates and at least a day."""
    weekend_to_weekday_frac: float | None
    prefix_reuse_frac: float | None
    """Share of the prompt tokens that an unlimited prefix cache would hold."""
    cached_frac: float | None
    """Share of the prompt tokens that the log itself says were cached."""
    sessions: Sessions | None
    ttft_s: Spread | None
    e2e_s: Spread | None
    notes: tuple[str, ...]


def describe(trace: Trace) -> TraceDescription:
    """Return the statistics of a trace."""
    quantum = clock_quantum(trace.arrival_s)
    notes = list(trace.notes)
    if quantum is not None:
        notes.append(f"the clock ticks in steps of {quantum:g} s: arrivals are spread evenly within a step")
    if trace.failures:
        notes.append(f"{trace.failures} rows without an answer are counted as failures and left out")
    requests = requests_of(trace)
    known = trace.cached_input_tokens
    total = max(int(trace.input_tokens.sum()), 1)
    sessions = session_statistics(trace)
    return TraceDescription(
        format=trace.format,
        requests=len(trace),
        failures=trace.failures,
        span_s=trace.span_s,
        requests_per_day=len(trace) / trace.span_s * 86_400.0 if trace.span_s > 0 else float(len(trace)),
        models={name: trace.model.count(name) for name in sorted(set(trace.model))},
        input_tokens=_spread(trace.input_tokens),
        output_tokens=_spread(trace.output_tokens),
        input_to_output=total / max(int(trace.output_tokens.sum()), 1),
        length_correlation=rank_correlation(trace.input_tokens, trace.output_tokens),
        context_fit_frac=_context_fit(trace.input_tokens + trace.output_tokens),
        clock_quantum_s=quantum,
        burstiness=None if trace.format == "weka_session_json" else burstiness(spread_times(trace.arrival_s, quantum)),
        hour_weights=_hours(trace),
        weekend_to_weekday_frac=_weekend(trace),
        prefix_reuse_frac=reuse_frac(requests) if trace.hash_ids is not None else None,
        cached_frac=None if known is None else float(known.sum()) / total,
        sessions=sessions,
        ttft_s=None if trace.ttft_s is None else spread(trace.ttft_s),
        e2e_s=None if trace.e2e_s is None else spread(trace.e2e_s),
        notes=tuple(notes),
    )


def clock_quantum(times: Floats) -> float | None:
    """Return the largest known tick of which all times are multiples, if ties show that it matters."""
    if len(times) < 20 or len(np.unique(times)) > 0.98 * len(times):
        return None
    for quantum in QUANTA_S:
        steps = times / quantum
        if np.abs(steps - np.rint(steps)).max() < 1e-6 and len(np.unique(times)) > 1:
            return quantum
    return _uneven_quantum(times)


def _uneven_quantum(times: Floats) -> float | None:
    """Return the tick of a log whose requests were handed over in batches at almost equal times."""
    gaps = np.diff(np.unique(times))
    tick = float(np.median(gaps))
    if len(gaps) > 0.5 * len(times) or tick <= 0:
        return None
    off = np.abs(gaps / tick - np.rint(gaps / tick))
    return round(tick, 3) if np.mean(off < 0.02) > 0.9 else None


def spread_times(times: Floats, quantum_s: float | None, seed: int = 0) -> Floats:
    """Return times spread evenly at random within each clock tick, sorted."""
    if quantum_s is None:
        return times
    return np.sort(times + np.random.default_rng(seed).random(len(times)) * quantum_s)


def burstiness(times: Floats) -> Burstiness | None:
    """Return how unevenly the sorted ``times`` follow each other."""
    gaps = np.diff(times)
    if len(gaps) < 20 or gaps.sum() <= 0:
        return None
    pauses = gaps[gaps > 2.0]
    on = max(float(gaps.sum() - pauses.sum()), 1e-9)
    return Burstiness(
        gap_cv=float(gaps.std() / gaps.mean()),
        dispersion_1s=_dispersion(times, 1.0),
        dispersion_60s=_dispersion(times, 60.0),
        autocorrelation_1s=_autocorrelation(times),
        on_frac=on / float(gaps.sum()),
        on_s=on / (len(pauses) + 1),
        off_s=float(pauses.mean()) if len(pauses) else 0.0,
    )


def _counts(times: Floats, width_s: float) -> Ints:
    at = ((times - times[0]) / width_s).astype(np.int64)
    return np.bincount(at)


def _dispersion(times: Floats, width_s: float) -> float:
    counts = _counts(times, width_s)
    return float(counts.var() / counts.mean())


def _autocorrelation(times: Floats) -> float:
    counts = _counts(times, 1.0).astype(np.float64)
    if len(counts) < 3 or counts.std() == 0:
        return 0.0
    return float(np.corrcoef(counts[:-1], counts[1:])[0, 1])


def session_statistics(trace: Trace) -> Sessions | None:
    """Return the statistics of the sessions, ``None`` if the log names none."""
    if trace.session is None:
        return None
    rows = np.flatnonzero(trace.session >= 0)
    if len(rows) == 0:
        return None
    _, counts = np.unique(trace.session[rows], return_counts=True)
    gaps, appended = session_steps(trace)
    return Sessions(
        sessions=len(counts),
        calls=_spread(counts),
        single_call_frac=float(np.mean(counts == 1)),
        gap_s=spread(gaps),
        appended_tokens=spread(appended),
    )


def session_steps(trace: Trace) -> tuple[Floats, Floats]:
    """Return the gaps between the calls of sessions and the tokens that each later call adds."""
    assert trace.session is not None
    order = np.lexsort((np.arange(len(trace)), trace.session))
    same = (trace.session[order][1:] == trace.session[order][:-1]) & (trace.session[order][1:] >= 0)
    before, after = order[:-1][same], order[1:][same]
    ended = trace.arrival_s[before]
    if trace.e2e_s is not None:
        ended = ended + np.nan_to_num(trace.e2e_s[before])
    grown = trace.input_tokens[after] - trace.input_tokens[before] - trace.output_tokens[before]
    return np.maximum(trace.arrival_s[after] - ended, 0.0), grown[grown > 0].astype(np.float64)


def _spread(values: Ints) -> Spread:
    found = spread(values.astype(np.float64))
    assert found is not None
    return found


def rank_correlation(a: Ints, b: Ints) -> float:
    """Return Spearman's correlation, 0 where a column does not vary."""
    if len(a) < 3 or a.min() == a.max() or b.min() == b.max():
        return 0.0
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Ints) -> Floats:
    """Return ranks with ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def _context_fit(tokens: Ints) -> dict[str, float]:
    sizes = (4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144, 1_048_576)
    return {str(size): float(np.mean(tokens <= size)) for size in sizes}


def _hours(trace: Trace) -> tuple[float, ...] | None:
    """Return the requests by hour of the day, over whole days only, so that no hour counts twice."""
    if trace.start_unix_s is None or trace.span_s < 86_400.0:
        return None
    whole = trace.arrival_s < trace.span_s // 86_400.0 * 86_400.0
    hours = ((trace.start_unix_s + trace.arrival_s[whole]) % 86_400.0 // 3600.0).astype(np.int64)
    counts = np.bincount(hours, minlength=24)
    return tuple(float(c) for c in counts / counts.mean())


def _weekend(trace: Trace) -> float | None:
    """Return requests per weekend day over requests per weekday (UTC), over whole weeks only."""
    if trace.start_unix_s is None or trace.span_s < 7 * 86_400.0:
        return None
    whole = trace.arrival_s < trace.span_s // (7 * 86_400.0) * 7 * 86_400.0
    day = ((trace.start_unix_s + trace.arrival_s[whole]) // 86_400.0 + 3).astype(np.int64) % 7
    weekend = float(np.sum(day >= 5)) / 2.0
    weekday = float(np.sum(day < 5)) / 5.0
    return weekend / weekday if weekday > 0 else None
