"""Predictions for measured rows, one function per kind of load; nothing here knows a particular row."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from envelope.errors import InputError
from envelope.validation import capacity, saturated, single
from envelope.validation.loads import LoadRun, closed_loop_run, open_loop_run, replay_run
from envelope.validation.rows import MeasuredRow
from envelope.validation.shapes import Found, per_reference, shape_of
from envelope.validation.target import Target, UnmappableError, target_of


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted value in SI and what the model believed to be the limit."""

    value: float
    bound: str
    target: Target


def predict(row: MeasuredRow, requests_path: str | None = None) -> Prediction:
    """Return the prediction of what a row measured.

    Raises ``UnmappableError`` with the reason when the row cannot be mapped or its load is not modelled.
    """
    rule = _RULES.get((row.quantity, row.load)) or _BY_LOAD.get(row.load)
    if rule is None:
        raise UnmappableError(f"no prediction of {row.quantity} under load {row.load!r}")
    try:
        value, bound, target = rule(row, requests_path)
    except (InputError, LookupError, ValueError, ArithmeticError) as error:
        raise UnmappableError(f"no prediction: {str(error).splitlines()[0] if str(error) else error!r}") from error
    if not (math.isfinite(value) and value > 0):
        raise UnmappableError("the prediction is not a positive number")
    return Prediction(value, bound, target)


def _closed_loop(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    run = closed_loop_run(row, target, shape_of(row).input_tokens, shape_of(row).output_tokens)
    return _of_run(row, target, run), run.bound, target


def _open_loop(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    run = open_loop_run(row, target, shape_of(row).input_tokens, shape_of(row).output_tokens)
    return _of_run(row, target, run), run.bound, target


def _replay(row: MeasuredRow, requests_path: str | None) -> Found:
    target = target_of(row)
    run = replay_run(row, target, requests_path)
    return _of_run(row, target, run), run.bound, target


def _of_run(row: MeasuredRow, target: Target, run: LoadRun) -> float:
    """Return the row's statistic of a simulated run."""
    if row.quantity in {"serving_throughput", "saturated_throughput", "decode_rate"}:
        rate = run.output_tokens_per_s + (run.input_tokens_per_s if row.counts_input else 0.0)
        return per_reference(row, target, rate)
    if row.quantity == "request_throughput":
        return per_reference(row, target, run.requests_per_s)
    if row.quantity == "per_user_rate":
        return 1.0 / run.mean("tpot")
    if row.quantity == "itl" and row.output_counted_tokens:
        return (run.mean("e2e") - run.mean("ttft")) / max(row.output_counted_tokens - 1, 1.0)
    return run.statistic(row.quantity, row.statistic)


_Rule = Callable[[MeasuredRow, str | None], Found]
_RULES: dict[tuple[str, str], _Rule] = {
    ("decode_rate", "single"): single.single_decode_rate,
    ("decode_rate", "batch"): single.single_decode_rate,
    ("prefill_rate", "single"): single.prefill_rate,
    ("prefill_rate", "batch"): single.prefill_rate,
    ("ttft_unloaded", "single"): single.unloaded_ttft,
    ("tpot", "single"): single.single_tpot,
    ("itl", "single"): single.single_tpot,
    ("request_latency", "single"): single.single_latency,
    ("e2e", "single"): single.single_latency,
    ("power_wall", "single"): single.single_wall,
    ("serving_throughput", "single"): single.batch_throughput,
    ("serving_throughput", "batch"): single.batch_throughput,
    ("request_latency", "batch"): single.batch_latency,
    ("itl", "steady"): saturated.steady_itl,
    ("tpot", "steady"): saturated.steady_itl,
    ("serving_throughput", "steady"): saturated.steady_throughput,
    ("power_gpu", "steady"): saturated.steady_power,
    ("energy_per_token", "steady"): saturated.steady_energy,
    ("energy_per_token", "saturated"): saturated.saturated_energy,
    ("energy_per_token", "slo"): saturated.saturated_energy,
    ("saturated_throughput", "saturated"): saturated.saturated_throughput,
    ("saturated_throughput", "slo"): saturated.saturated_throughput,
    ("power_wall", "saturated"): saturated.saturated_wall,
    ("power_wall", "slo"): saturated.saturated_wall,
    ("tpot", "slo"): saturated.slo_tpot,
    ("ttft", "slo"): saturated.slo_ttft,
    ("prefill_rate", "phase"): saturated.phase_prefill,
    ("prefill_rate", "production"): saturated.phase_prefill,
    ("decode_rate", "phase"): saturated.phase_decode,
    ("decode_rate", "production"): saturated.phase_decode,
    ("serving_throughput", "production"): saturated.saturated_throughput,
    ("request_throughput", "saturated"): capacity.saturated_requests,
    ("request_throughput", "slo"): capacity.saturated_requests,
    ("request_throughput", "production"): capacity.saturated_requests,
    ("request_throughput", "steady"): capacity.steady_requests,
    ("request_throughput", "batch"): capacity.batch_requests,
    ("request_throughput", "single"): capacity.single_requests,
    ("concurrency_capacity", "saturated"): capacity.concurrency,
    ("concurrency_capacity", "slo"): capacity.concurrency,
    ("concurrency_capacity", "closed_loop"): capacity.concurrency,
    ("concurrency_capacity", "steady"): capacity.concurrency,
    ("concurrency_capacity", "production"): capacity.concurrency,
    ("concurrency_capacity", "phase"): capacity.concurrency,
    ("per_user_rate", "saturated"): capacity.saturated_user_rate,
    ("per_user_rate", "slo"): capacity.saturated_user_rate,
    ("per_user_rate", "steady"): capacity.steady_user_rate,
    ("per_user_rate", "single"): capacity.single_user_rate,
    ("per_user_rate", "batch"): capacity.single_user_rate,
    ("per_user_rate", "phase"): capacity.phase_user_rate,
    ("per_user_rate", "production"): capacity.phase_user_rate,
    ("power_efficiency", "phase"): capacity.provisioned_efficiency,
    ("power_efficiency", "saturated"): capacity.provisioned_efficiency,
    ("power_efficiency", "slo"): capacity.provisioned_efficiency,
}
"""Quantity and load → the function that predicts it."""

_BY_LOAD: dict[str, _Rule] = {"closed_loop": _closed_loop, "open_loop": _open_loop, "replay": _replay}
