"""A generic architecture of a stated size, for models that the catalog does not know."""

from functools import cache

from envelope.provenance import Evidence, Source
from envelope.spec.model import Blocks, DenseFfn, GroupedAttention, Layer, Model, Moe

_VOCAB = 128_256
_HEAD_DIM = 128
_QUERIES_PER_KV_HEAD = 4
_ATTENTION = 2.5
"""Parameters of query, key, value and output projections per hidden², at four queries per KV head."""
_TOP_K = 8


@cache
def standin(name: str, total: float, active: float) -> Model:
    """Return a grouped-query transformer of ``total`` parameters, of which a token passes ``active``.

    Hidden size and depth follow the proportions of published models (depth = hidden/128 and 13 hidden² parameters
    a layer when dense; narrower and deeper when sparse); the feed-forward width then meets the stated size.
    Evidence class: assumed.
    """
    sparse = active < 0.9 * total
    tied = total < 4e9
    ratio = (active * 128 / 13) ** (1 / 3) * (0.75 if sparse else 1.0)
    hidden = max(round(ratio / 256) * 256, 256)
    embedding = _VOCAB * hidden * (1 if tied else 2)
    body = max(active - embedding, 0.3 * active)
    layers = max(round(hidden / 64) if sparse else round(body / (13 * hidden**2)), 1)
    attended = _ATTENTION * hidden**2
    wide = max(body / layers - attended, 0.5 * hidden**2)
    dense = None if sparse else DenseFfn(width=max(round(wide / (3 * hidden)), 1))
    moe = _experts(total - active, hidden, layers, wide) if sparse else None
    layer = Layer(attention="full", ffn="moe" if sparse else "dense")
    return Model(
        id=f"standin-{total / 1e9:g}b-a{active / 1e9:g}b",
        name=f"{name} (stand-in of its size)",
        family="stand-in",
        developer="unknown",
        release_date=None,
        licence="unknown",
        params_total=total,
        params_active=active if sparse else None,
        hidden=hidden,
        vocab=_VOCAB,
        tie_embeddings=tied,
        max_context_tokens=131_072,
        attention={"full": _attention(hidden)},
        dense_ffn=dense,
        moe=moe,
        layer_pattern=(Blocks(repeat=layers, block=(layer,)),),
        sources={"default": Source(source="size stated in the name", date="2026-11", evidence=Evidence.ASSUMED)},
    )


def _attention(hidden: int) -> GroupedAttention:
    heads = max(hidden // _HEAD_DIM, 1)
    kv_heads = heads // _QUERIES_PER_KV_HEAD if heads % _QUERIES_PER_KV_HEAD == 0 else 1
    return GroupedAttention(kind="gqa", heads=heads, kv_heads=kv_heads, qk_dim=_HEAD_DIM, v_dim=_HEAD_DIM)


def _experts(idle: float, hidden: int, layers: int, wide: float) -> Moe:
    """Return experts of which ``top_k`` make up a layer's active width and the others ``idle`` parameters."""
    width = max(round(wide / (3 * hidden * _TOP_K)), 1)
    experts = _TOP_K + round(idle / (layers * 3 * hidden * width))
    return Moe(experts=max(experts, _TOP_K), top_k=_TOP_K, expert_width=width)
