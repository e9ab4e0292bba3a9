"""Predictions of what a system carries: requests per second, users at once, the rate of each, tokens per watt."""

from envelope.perf.steady import steady_state
from envelope.validation.hosts import wall_w
from envelope.validation.rows import MeasuredRow
from envelope.validation.saturated import best_saturated, decode_phase
from envelope.validation.shapes import Found, bound_at, loop_of, per_reference, shape_of
from envelope.validation.single import batch_s, single_decode_rate, single_latency
from envelope.validation.target import target_of


def saturated_requests(row: MeasuredRow, _: str | None) -> Found:
    """Return the requests per second at full load, within the latency limits if the load has any."""
    best = best_saturated(row)
    rate = best.rate / shape_of(row).output_tokens
    return per_reference(row, best.target, rate), bound_at(best.target.tables(), best.sequences), best.target


def steady_requests(row: MeasuredRow, _: str | None) -> Found:
    """Return the requests per second of a steady batch."""
    target, shape = target_of(row), shape_of(row)
    tables = target.tables()
    sequences = max((row.batch or 1.0) / target.replicas, 1.0)
    state = steady_state(tables, loop_of(target, shape, sequences))
    rate = target.replicas * sequences / state.e2e_s
    return per_reference(row, target, rate), bound_at(tables, sequences), target


def batch_requests(row: MeasuredRow, _: str | None) -> Found:
    """Return the requests per second of static batches one after the other."""
    target = target_of(row)
    sequences = max(row.batch or 1.0, 1.0)
    rate = sequences / batch_s(target, shape_of(row), sequences)
    return per_reference(row, target, rate), bound_at(target.tables(), sequences), target


def single_requests(row: MeasuredRow, _: str | None) -> Found:
    """Return the requests per second of one client that sends the next request after each answer."""
    latency, bound, target = single_latency(row, None)
    return per_reference(row, target, 1.0 / latency), bound, target


def concurrency(row: MeasuredRow, _: str | None) -> Found:
    """Return how many requests are served at once: as many as the KV cache and the latency limits admit."""
    best = best_saturated(row)
    at_once = best.sequences * best.target.replicas
    return per_reference(row, best.target, at_once), bound_at(best.target.tables(), best.sequences), best.target


def saturated_user_rate(row: MeasuredRow, _: str | None) -> Found:
    """Return the tokens per second that each user sees at full load."""
    best = best_saturated(row)
    return 1.0 / best.state.itl_s, bound_at(best.target.tables(), best.sequences), best.target


def steady_user_rate(row: MeasuredRow, _: str | None) -> Found:
    """Return the tokens per second that each user of a steady batch sees."""
    target, shape = target_of(row), shape_of(row)
    tables = target.tables()
    sequences = max((row.batch or 1.0) / target.replicas, 1.0)
    return 1.0 / steady_state(tables, loop_of(target, shape, sequences)).itl_s, bound_at(tables, sequences), target


def single_user_rate(row: MeasuredRow, _: str | None) -> Found:
    """Return the tokens per second of one user, alone or in a batch in step."""
    rate, bound, target = single_decode_rate(row, None)
    return rate / max(row.batch or 1.0, 1.0), bound, target


def phase_user_rate(row: MeasuredRow, _: str | None) -> Found:
    """Return the tokens per second that each user sees where decode runs on devices of its own."""
    phase = decode_phase(row)
    return phase.rate / phase.sequences, bound_at(phase.target.tables(), phase.sequences), phase.target


def provisioned_efficiency(row: MeasuredRow, _: str | None) -> Found:
    """Return tokens per second per watt that is provisioned: of every device's limit and the computer around it."""
    best = best_saturated(row)
    limit = best.target.replica.hardware.power.max_w * best.target.devices
    rate = best.rate
    if row.counts_input:
        rate *= 1.0 + shape_of(row).input_tokens / shape_of(row).output_tokens
    bound = bound_at(best.target.tables(), best.sequences)
    return rate / wall_w(limit, best.target, row), bound, best.target
