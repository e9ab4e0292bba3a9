"""A model as operators: its layers, embedding and head, merged where they are equal."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from envelope.perf.operators import Attention, Experts, Linear, Operators
from envelope.perf.projections import Layers, attention_layers
from envelope.spec.model import Layer, Model, Moe


@lru_cache(maxsize=1024)
def operators(model: Model) -> Operators:
    """Return the operators of one forward pass of ``model``, without its MTP layers."""
    parts = _body(model, model.layer_counts)
    parts.append(_ends(model))
    return _merged(model, parts, model.layer_counts)


@lru_cache(maxsize=1024)
def mtp_operators(model: Model) -> Operators | None:
    """Return the operators of one draft pass through the MTP layers, or ``None`` for a model without.

    Each MTP layer joins the last hidden state and the embedding of the last token by a projection 2h → h
    (DeepSeek-V3, arXiv 2412.19437, equation 21); embedding and head are the model's own.
    """
    if model.mtp is None:
        return None
    counts = {Layer(attention=model.mtp.attention, ffn=model.mtp.ffn): model.mtp.layers}
    n, hidden = model.mtp.layers, model.hidden
    parts = _body(model, counts)
    join = Linear("mtp_join", "other", hidden, 2 * hidden, n)
    parts.append(Layers((join, replace(_head(model), layers=n)), vectors={"norm": 3 * n * hidden}))
    return _merged(model, parts, counts)


def _body(model: Model, counts: Mapping[Layer, int]) -> list[Layers | Experts]:
    """Return the operators of the layers in ``counts``."""
    found: list[Layers | Experts] = []
    for layer, n in counts.items():
        if layer.attention is not None:
            found.append(attention_layers(model.attention[layer.attention], model.hidden, n))
        if layer.ffn in ("dense", "dense_and_moe") and model.dense_ffn is not None:
            found.append(_dense(model, layer.ffn_width or model.dense_ffn.width, n))
        if layer.ffn in ("moe", "dense_and_moe") and model.moe is not None:
            found += _moe(model.moe, model.hidden, n)
    found.append(_around(model, counts))
    return found


def _around(model: Model, counts: Mapping[Layer, int]) -> Layers:
    """Return what every layer has around its halves: norms, hyper-connections, per-layer embeddings."""
    layers, hidden, streams = sum(counts.values()), model.hidden, model.residual_streams
    norm = hidden * (2 if model.norm_bias else 1)
    vectors = Counter({"norm": norm * _norms(model, counts)})
    linears: list[Linear] = []
    if streams > 1:
        # transformers 5.23, models/deepseek_v4: each half mixes the streams by (2 + s)·s coefficients
        mixed = (2 + streams) * streams
        linears.append(Linear("hyper_connection", "other", mixed, streams * hidden, 2 * layers))
        vectors["other"] += 2 * layers * (mixed + 3)
    if model.per_layer_embedding_dim is not None:
        narrow = model.per_layer_embedding_dim
        linears.append(Linear("layer_embedding_gate", "other", narrow, hidden, layers))
        linears.append(Linear("layer_embedding_out", "other", hidden, narrow, layers))
        vectors["norm"] += hidden * layers
    return Layers(tuple(linears), vectors=vectors)


def _norms(model: Model, counts: Mapping[Layer, int]) -> int:
    """Return the normalisations of the hidden state in the layers: one set per half; a parallel MoE has its own."""
    halves = sum(n * ((layer.attention is not None) + (layer.ffn != "none")) for layer, n in counts.items())
    both = sum(n for layer, n in counts.items() if layer.ffn == "dense_and_moe")
    return halves * model.norms_per_sublayer + 3 * both


def _dense(model: Model, width: int, layers: int) -> Layers:
    ffn = model.dense_ffn
    assert ffn is not None
    inner = (ffn.matrices - 1) * width
    bias = (inner + model.hidden) * layers if ffn.bias else 0
    return Layers(
        (
            Linear("ffn_in", "dense_ffn", inner, model.hidden, layers, split="column", matrices=ffn.matrices - 1),
            Linear("ffn_out", "dense_ffn", model.hidden, width, layers, split="row"),
        ),
        vectors={"dense_ffn": bias},
    )


def _moe(moe: Moe, hidden: int, layers: int) -> list[Layers | Experts]:
    linears = [Linear("router", "router", moe.experts, hidden, layers)]
    vectors = Counter({"router": moe.experts * layers if moe.router_bias else 0})
    if moe.shared_width:
        inner = (moe.matrices - 1) * moe.shared_width
        shared = Linear("shared_in", "shared_experts", inner, hidden, layers, split="column", matrices=moe.matrices - 1)
        linears.append(shared)
        linears.append(Linear("shared_out", "shared_experts", hidden, moe.shared_width, layers, split="row"))
    if moe.shared_gate:
        vectors["shared_experts"] += hidden * layers
    if moe.latent_dim is not None:
        linears.append(Linear("expert_down", "shared_experts", moe.latent_dim, hidden, layers))
        linears.append(Linear("expert_up", "shared_experts", hidden, moe.latent_dim, layers))
    experts = Experts(
        moe.experts, moe.top_k, moe.latent_dim or hidden, moe.expert_width, moe.matrices, layers, moe.expert_bias
    )
    return [Layers(tuple(linears), vectors=vectors), experts]


def _head(model: Model) -> Linear:
    return Linear("lm_head", "lm_head", model.vocab, model.hidden, 1, tokens="sampled", split="column")


def _ends(model: Model) -> Layers:
    """Return embedding, final norm and head; a tied table is counted once, as the head that is multiplied."""
    hidden, streams = model.hidden, model.residual_streams
    vectors = Counter({"norm": hidden * (2 if model.norm_bias else 1)})
    if not model.tie_embeddings:
        vectors["embed"] += model.vocab * hidden
    linears = [_head(model)]
    vectors["lm_head"] += model.vocab if model.lm_head_bias else 0
    if streams > 1:
        linears.append(Linear("hyper_head", "other", streams, streams * hidden, 1, tokens="sampled"))
        vectors["other"] += streams + 1
    if model.per_layer_embedding_dim is not None:
        wide = model.layers * model.per_layer_embedding_dim
        linears.append(Linear("layer_embedding_in", "other", wide, hidden, 1))
        vectors["embed"] += model.vocab * wide
        vectors["norm"] += model.per_layer_embedding_dim
    return Layers(tuple(linears), vectors=vectors)


def _merged(model: Model, parts: list[Layers | Experts], counts: Mapping[Layer, int]) -> Operators:
    """Join operators that differ in nothing but their number of layers."""
    linears: Counter[Linear] = Counter()
    attentions: Counter[Attention] = Counter()
    experts: Counter[Experts] = Counter()
    vectors: Counter[str] = Counter()
    for part in parts:
        if isinstance(part, Experts):
            experts[replace(part, layers=1)] += part.layers
            continue
        for linear in part.linears:
            linears[replace(linear, layers=1)] += linear.layers
        if part.attention is not None:
            attentions[replace(part.attention, layers=1)] += part.attention.layers
        vectors.update(part.vectors)
    return Operators(
        linears=tuple(replace(x, layers=n) for x, n in linears.items()),
        experts=tuple(replace(x, layers=n) for x, n in experts.items()),
        attentions=tuple(replace(x, layers=n) for x, n in attentions.items()),
        vectors=dict(vectors),
        hidden=model.hidden,
        vocab=model.vocab,
        layers=sum(counts.values()),
        norms=_norms(model, counts) + 1,
        residual_streams=model.residual_streams,
        tied_head=model.tie_embeddings,
    )
