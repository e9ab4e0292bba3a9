"""From an endpoint's measured times to a hosted-API record: latency measured, terms taken from a record given."""

import math
from collections.abc import Sequence

import numpy as np

from envelope.errors import InputError, Problem
from envelope.provenance import Evidence, Source
from envelope.sensors.endpoint_load import EndpointResult, LevelResult
from envelope.spec.hosted import (
    Availability,
    DataTerms,
    HostedLatency,
    HostedModel,
    Lifecycle,
    RateLimits,
    TariffLine,
)


def measured_latency(result: EndpointResult) -> HostedLatency:
    """Return the latency of the lightest concurrency: TTFT by length of the input, speed of the output.

    Prompts are all different, so the growth with the input's length is that of uncached tokens.
    """
    levels = [x for x in result.levels if x.ttft is not None and x.tpot is not None]
    if not levels:
        raise InputError(Problem(result.url, "", None, "no request was answered in full", "see the outcome counts"))
    light = [x for x in levels if x.concurrency == min(y.concurrency for y in levels)]
    base, slope = _ttft_line(light)
    speeds = [1.0 / x.tpot.p50_s for x in light if x.tpot and x.tpot.p50_s > 0]
    return HostedLatency(
        ttft_p50_s=base,
        ttft_sigma_ln=max(x.ttft.sigma_ln for x in light if x.ttft),
        ttft_s_per_uncached_token=slope,
        output_tokens_per_s_p50=math.exp(float(np.mean(np.log(speeds)))),
        output_tokens_per_s_sigma_ln=max(x.tpot.sigma_ln for x in light if x.tpot),
        note=f"{sum(x.completed for x in light)} requests at concurrency {light[0].concurrency}",
    )


def _ttft_line(levels: Sequence[LevelResult]) -> tuple[float, float]:
    """Return the intercept and slope of the median TTFT over the input tokens (slope 0 for one length)."""
    tokens = np.array([x.input_tokens_mean for x in levels])
    medians = np.array([x.ttft.p50_s for x in levels if x.ttft])
    if len(levels) < 2 or float(np.ptp(tokens)) < 1:
        return float(medians[0]), 0.0
    slope, base = np.polyfit(tokens, medians, 1)
    slope = max(float(slope), 0.0)
    floor = 0.1 * float(medians.min())
    return max(float(base), floor), slope


def hosted_record(
    result: EndpointResult, ident: str, *, like: HostedModel | None, prices: tuple[float, float] | None
) -> HostedModel:
    """Return a hosted-API record with measured latency; everything else from ``like``, or unknown.

    ``prices`` are dollars per million input and output tokens; one's own server costs nothing per token.
    """
    source = Source(
        source=f"envelope probe endpoint, {result.requests} requests", date=result.date, evidence=Evidence.MEASURED
    )
    latency = measured_latency(result)
    note = f"probed at {result.url}"
    if like is not None:
        sources = {**like.sources, "latency": source}
        changed = {"id": ident, "aliases": (), "latency": latency, "note": note, "sources": sources}
        return HostedModel.model_validate({**like.model_dump(), **changed})
    unit = prices or (0.0, 0.0)
    assumed = Source(source="not known of this endpoint", date=result.date, evidence=Evidence.ASSUMED)
    return HostedModel(
        id=ident,
        name=f"{result.model} (probed)",
        provider="own",
        api_model=result.model,
        tariff=(
            TariffLine(kind="input", usd_per_mtok=unit[0]),
            TariffLine(kind="output", usd_per_mtok=unit[1]),
        ),
        latency=latency,
        limits=_limits(result),
        availability=Availability(frac=0.99),
        data=DataTerms(trains_by_default=None, retention_days=None, zero_retention="unknown", regions=()),
        lifecycle=Lifecycle(pinned=None, notice_months=None, life_months=36),
        note=note,
        sources={"default": assumed, "latency": source, "limits": source},
    )


def _limits(result: EndpointResult) -> RateLimits:
    """Return the limits that the server names in its headers, and what was seen of refusals."""
    refused = sum(x.rate_limited for x in result.levels)
    note = f"{refused} answers 429 in {result.requests} requests"
    if result.retry_after_s is not None:
        note += f"; asked to wait up to {result.retry_after_s:g} s"
    return RateLimits(
        rpm=_number(result.limits.get("x-ratelimit-limit-requests")),
        tpm=_number(result.limits.get("x-ratelimit-limit-tokens")),
        note=note,
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else 0.0
    except ValueError:
        return None
    return value if value > 0 else None
