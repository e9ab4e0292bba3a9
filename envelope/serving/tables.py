"""Packing step tables into the kernel's flat array."""

import numpy as np

from envelope.serving.kernel import layout as k
from envelope.serving.requests import Floats
from envelope.spec.step import StepTables


def packed_tables(tables: list[StepTables]) -> tuple[Floats, list[int]]:
    """Return all tables in one array (equal ones once) and where the table of each replica begins."""
    parts: list[Floats] = []
    known: dict[int, int] = {}
    at = 0
    for table in tables:
        if id(table) not in known:
            known[id(table)] = at
            parts.append(_packed(table, at))
            at += len(parts[-1])
    return np.concatenate(parts) if parts else np.zeros(1), [known[id(t)] for t in tables]


def _packed(table: StepTables, at: int) -> Floats:
    knots = np.asarray(table.context_knots_tokens, dtype=np.float64)
    slope = np.asarray(table.decode_slope_s_per_token, dtype=np.float64).reshape(-1, len(knots))
    curve = np.asarray(table.prefill_slope_s_per_token, dtype=np.float64)
    width = np.diff(knots)
    level = np.hstack([np.zeros((len(slope), 1)), np.cumsum(slope[:, :-1] * width, axis=1)])
    rate = np.concatenate([[0.0], np.cumsum(curve[:-1] * width)])
    total = np.concatenate([[0.0], np.cumsum(rate[:-1] * width + 0.5 * curve[:-1] * width**2)])
    head = np.zeros(k.P_SIZE)
    head[k.P_MAX_TOKENS], head[k.P_MAX_SEQS] = table.max_batched_tokens, table.max_num_seqs
    head[k.P_KNOTS], head[k.P_STEP_S] = len(knots), table.step_overhead_s
    head[k.P_PREFILL_S], head[k.P_PREFILL_TOKEN_S] = table.prefill_base_s, table.prefill_token_s
    head[k.P_REQUEST_S], head[k.P_IDLE_W] = table.request_overhead_s, table.idle_w
    regions = {
        k.P_TOKEN: table.token_s, k.P_SAMPLED: table.sampled_s, k.P_DECODE: table.decode_base_s, k.P_KNOT: knots,
        k.P_LEVEL: level.ravel(), k.P_SLOPE: slope.ravel(), k.P_RATE: rate, k.P_TOTAL: total, k.P_CURVE: curve,
        k.P_POWER: table.step_w, k.P_LIMIT: table.bound.astype(np.float64),
    }  # fmt: skip
    parts, end = [head], k.P_SIZE
    for where, region in regions.items():
        head[where] = at + end
        parts.append(np.asarray(region, dtype=np.float64))
        end += len(parts[-1])
    return np.concatenate(parts)
