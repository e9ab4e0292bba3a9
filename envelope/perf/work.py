"""The work of a model: operators, parameters, bytes and FLOPs, all computed from its architecture."""

from functools import lru_cache

from envelope.perf.kv import entry_bytes, kv_bytes, kv_bytes_per_token, state_bytes
from envelope.perf.layers import mtp_operators, operators
from envelope.perf.operators import Attention, Experts, Indexer, Linear, Operators
from envelope.perf.params import ParamCounts, encoder_bytes, param_counts, part_format, weight_bytes
from envelope.spec.model import Model

__all__ = [
    "Attention",
    "Experts",
    "Indexer",
    "Linear",
    "Operators",
    "ParamCounts",
    "encoder_bytes",
    "entry_bytes",
    "flop_per_token",
    "kv_bytes",
    "kv_bytes_per_token",
    "mtp_operators",
    "operators",
    "param_counts",
    "part_format",
    "state_bytes",
    "weight_bytes",
]


@lru_cache(maxsize=1024)
def product_flop_per_token(model: Model) -> float:
    """Return the FLOPs of all matrix products of one decoded token, 2 · n · k each; the head included."""
    ops = operators(model)
    linear = sum(2.0 * x.params for x in ops.linears)
    return linear + sum(2.0 * e.params * e.top_k / e.n_routed for e in ops.experts)


def flop_per_token(model: Model, context_tokens: float) -> float:
    """Return the FLOPs of the forward pass of one token decoded at ``context_tokens``.

    Matrix products plus attention over what that token sees. Norms, activations and softmax are left out
    (below 1 %), as is usual in published figures.
    """
    return product_flop_per_token(model) + sum(a.decode_flop(context_tokens) for a in operators(model).attentions)
