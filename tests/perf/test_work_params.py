"""Parameters computed from the architecture against published counts."""

import math

import pytest

from envelope.perf.work import param_counts, weight_bytes
from envelope.spec.load import load, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat

MODELS = load_all(Model, "models")
FORMATS = {f.id: f for f in load_all(NumberFormat, "formats")}


def model(name: str) -> Model:
    return load(Model, "models", name, file="a test", path="model")


TOTAL_EXCEPTIONS = {
    "kimi-k2": "the report's 1.04 T exceeds what the configuration gives, 1.026 T; the card says 1 T",
    "kimi-k2-0905": "as kimi-k2",
    "kimi-k2-thinking": "as kimi-k2",
    "kimi-k2.5": "as kimi-k2",
    "kimi-k2.6": "as kimi-k2",
}

ACTIVE_EXCEPTIONS = {
    "deepseek-v2-lite": "published 2.4 B is 2.45 B cut off",
    "gemma-4-e4b": "the card's effective 4.5 B leaves out more than the per-layer tables; 4.64 B remain without them",
    "glm-4.5": "published 32 B lies below both ways of counting, 33.6 B with and 32.9 B without embedding",
    "glm-4.6": "as glm-4.5",
    "glm-4.7": "as glm-4.5",
    "glm-4.5-air": "published 12 B lies below both ways of counting, 13.4 B and 12.8 B",
    "glm-4.7-flash": "A3B is a nominal size; 3.6 B without embedding",
    "glm-5": "published 40 B lies below both ways of counting, 41.8 B and 40.8 B",
    "glm-5.1": "as glm-5",
    "qwen3-30b-a3b": "published 3.3 B is 3.35 B cut off",
    "qwen3-30b-a3b-2507": "as qwen3-30b-a3b",
    "qwen3-coder-30b-a3b": "as qwen3-30b-a3b",
    "qwen3-vl-30b-a3b": "as qwen3-30b-a3b",
    "qwen3-next-80b-a3b": "A3B is a nominal size; 3.6 B without embedding",
    "qwen3-coder-next": "as qwen3-next-80b-a3b",
}


def rounding(published: float) -> float:
    """Half a unit of the last digit of a published count, which is written in billions (trillions from 1,000 on)."""
    billions = published / 1e9
    if billions >= 1000:
        billions, scale = billions / 1000, 1e12
    else:
        scale = 1e9
    decimals = next(d for d in range(6) if math.isclose(round(billions, d), billions, rel_tol=1e-9))
    return 0.5 * 10.0**-decimals * scale * (1 + 1e-9)


def agrees(computed: float, published: float) -> bool:
    return abs(computed - published) <= max(0.01 * published, rounding(published))


def total(m: Model) -> float:
    counts = param_counts(m)
    return (
        counts.total
        + (m.encoder_params if m.params_total_includes_encoder else 0)
        + (counts.mtp if m.params_total_includes_mtp else 0)
    )


@pytest.mark.parametrize("m", [m for m in MODELS if m.params_total], ids=lambda m: m.id)
def test_total_agrees_with_the_published_count(m: Model):
    assert m.params_total is not None
    assert agrees(total(m), m.params_total) == (m.id not in TOTAL_EXCEPTIONS)


@pytest.mark.parametrize("m", [m for m in MODELS if m.params_active], ids=lambda m: m.id)
def test_active_agrees_with_the_published_count_with_or_without_embedding(m: Model):
    counts = param_counts(m)
    assert m.params_active is not None
    found = agrees(counts.active, m.params_active) or agrees(counts.active_no_embed, m.params_active)
    assert found == (m.id not in ACTIVE_EXCEPTIONS)


def test_glm_4_6_agrees_only_once_its_mtp_layer_is_counted():
    counts = param_counts(model("glm-4.6"))
    assert agrees(counts.total + counts.mtp, 357e9)
    assert not agrees(counts.total, 357e9)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        # issue list: exact counts as published in reports and model cards
        ("llama-2-7b", 6.738), ("llama-2-13b", 13.016), ("llama-2-70b", 68.977), ("llama-3.1-8b", 8.030),
        ("llama-3.1-70b", 70.554), ("llama-3.1-405b", 405.85), ("deepseek-v3", 671.03), ("deepseek-v4-flash", 284.33),
        ("mixtral-8x7b", 46.703), ("gpt-oss-120b", 116.83), ("gpt-oss-20b", 20.915), ("qwen2.5-7b", 7.616),
        # parameters as llama.cpp prints them when it loads the file
        ("gemma-4-31b", 30.70), ("gemma-4-26b-a4b", 25.23), ("glm-4.7-flash", 29.94), ("minimax-m2.7", 228.69),
        ("ministral-3-14b", 13.51), ("qwen3.6-35b-a3b", 34.66), ("qwen3.5-122b-a10b", 122.11),
        ("nemotron-3-super-120b-a12b", 120.67),
    ],
)  # fmt: skip
def test_total_to_four_digits(name: str, billions: float):
    assert param_counts(model(name)).total / 1e9 == pytest.approx(billions, rel=4e-4)


@pytest.mark.parametrize(
    ("name", "part", "count"),
    [
        # by hand from config.json: heads · head_dim · hidden and the like
        ("llama-3.1-8b", "attention", 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)),
        ("llama-3.1-8b", "dense_ffn", 32 * 3 * 4096 * 14336),
        ("llama-3.1-8b", "norm", 65 * 4096),
        ("mixtral-8x7b", "routed_experts", 32 * 8 * 3 * 4096 * 14336),
        ("deepseek-v3", "routed_experts", 58 * 256 * 3 * 7168 * 2048),
        ("deepseek-v3", "shared_experts", 58 * 3 * 7168 * 2048),
        ("deepseek-v3", "dense_ffn", 3 * 3 * 7168 * 18432),
        ("deepseek-v3", "router", 58 * 256 * (7168 + 1)),
        (
            "deepseek-v3",
            "attention",
            61 * (7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168),
        ),
        ("deepseek-v3.2", "indexer", 61 * (1536 * 64 * 128 + 7168 * 128 + 7168 * 64)),
        ("gpt-oss-120b", "routed_experts", 36 * 128 * (3 * 2880 * 2880 + 3 * 2880)),
        ("qwen3.6-27b", "dense_ffn", 64 * 3 * 5120 * 17408),
    ],
)  # fmt: skip
def test_parts_counted_by_hand(name: str, part: str, count: int):
    assert param_counts(model(name)).by_part[part] == count


def test_all_experts_are_resident_although_few_are_active():
    counts = param_counts(model("deepseek-v3"))
    bytes_by_part = weight_bytes(model("deepseek-v3"), FORMATS["bf16"], FORMATS)
    assert bytes_by_part["routed_experts"] == 2 * 58 * 256 * 3 * 7168 * 2048
    assert sum(bytes_by_part.values()) == pytest.approx(2 * counts.total)
    assert counts.active < 0.06 * counts.total


def test_dense_models_are_wholly_active():
    for m in MODELS:
        if m.moe is None:
            assert param_counts(m).active == param_counts(m).total


@pytest.mark.parametrize("m", MODELS, ids=lambda m: m.id)
def test_counts_hang_together(m: Model):
    counts = param_counts(m)
    assert sum(counts.by_part.values()) == counts.total
    assert 0 < counts.active_no_embed <= counts.active <= counts.total
    assert all(n > 0 for n in counts.by_part.values())
    assert ("embed" in counts.by_part) == (not m.tie_embeddings or m.per_layer_embedding_dim is not None)


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("gpt-oss-120b", 65.3),  # repository on the hub, encoders and MTP none
        ("deepseek-v4-flash", 155.7),  # 158 GB with the MTP layer and copies
        ("kimi-k2.5", 594.2),
        ("llama-3.1-8b", 16.06),
        ("deepseek-v3", 673.2),  # 671.0 B: 668.2 B in fp8 with scales, the rest bf16
    ],
)
def test_native_checkpoints_have_their_published_size(name: str, gigabytes: float):
    assert sum(weight_bytes(model(name), "native", FORMATS).values()) / 1e9 == pytest.approx(gigabytes, rel=2e-3)


@pytest.mark.parametrize("name", ["gpt-oss-120b", "deepseek-v3", "kimi-k2.5", "deepseek-v4-flash"])
def test_naming_the_native_format_means_the_checkpoint_as_shipped(name: str):
    m = model(name)
    assert weight_bytes(m, FORMATS[m.native_format], FORMATS) == weight_bytes(m, "native", FORMATS)


def test_published_nvfp4_checkpoints_keep_their_attention_wide():
    m = model("minimax-m2.5")
    parts = weight_bytes(m, FORMATS["nvfp4"], FORMATS)
    counts = param_counts(m).by_part
    assert parts["attention"] == 2 * counts["attention"]
    assert parts["routed_experts"] == counts["routed_experts"] * 4.5 / 8


@pytest.mark.parametrize("ident", sorted(f.id for f in FORMATS.values() if f.weights))
def test_every_format_applies_to_every_model(ident: str):
    for m in MODELS:
        found = weight_bytes(m, FORMATS[ident], FORMATS)
        total_bits = 8 * sum(found.values()) / param_counts(m).total
        assert 1.5 < total_bits <= 32.0
