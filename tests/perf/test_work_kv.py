"""KV cache and recurrent state per sequence against published figures and hand counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.perf.memory import fit
from envelope.perf.replica import resolve
from envelope.perf.work import entry_bytes, kv_bytes, kv_bytes_per_token, operators, state_bytes
from envelope.spec.load import load, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat
from envelope.units import GIB

MODELS = load_all(Model, "models")
FORMATS = {f.id: f for f in load_all(NumberFormat, "formats")}
BF16 = FORMATS["bf16"]


def model(name: str) -> Model:
    return load(Model, "models", name, file="a test", path="model")


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        # 2 (K and V) · layers · kv_heads · head_dim · 2 bytes, from each config.json
        ("llama-2-7b", 524_288), ("llama-2-13b", 819_200), ("llama-2-70b", 327_680), ("llama-3.1-8b", 131_072),
        ("llama-3.3-70b", 327_680), ("llama-3.1-405b", 516_096), ("llama-3.2-1b", 32_768), ("qwen3-8b", 147_456),
        ("qwen3-235b-a22b", 192_512), ("mixtral-8x7b", 131_072), ("phi-4", 204_800), ("falcon-180b", 163_840),
        ("glm-4.5", 376_832), ("minimax-m2", 253_952), ("olmoe-1b-7b", 131_072), ("tinyllama-1.1b", 22_528),
        # latent of 512 + 64 per layer, one for K and V (DeepSeek-V3 report: 70 KB); with an indexer key of 128
        ("deepseek-v3", 70_272), ("kimi-k2", 70_272), ("deepseek-v2-lite", 31_104), ("deepseek-v3.2", 85_888),
        ("glm-5", 109_824), ("glm-5.2", 95_232),
        # only the full-attention layers grow
        ("gpt-oss-120b", 36_864), ("gpt-oss-20b", 24_576), ("gemma-3-27b", 81_920), ("gemma-4-e2b", 6_144),
        ("gemma-4-31b", 81_920), ("llama-4-scout", 49_152), ("qwen3-next-80b-a3b", 24_576),
        ("nemotron-3-nano-30b-a3b", 6_144), ("mistral-7b-v0.1", 0), ("mimo-v2-flash", 9 * 4 * (192 + 128) * 2),
        # compressed: 21 layers (512 + 128)/4 and 20 layers 512/128 elements per token
        ("deepseek-v4-flash", 6_880), ("deepseek-v4-pro", 9_848),
    ],
)  # fmt: skip
def test_growth_per_token_is_exact(name: str, bytes_per_token: int):
    assert kv_bytes_per_token(model(name), BF16) == bytes_per_token


def test_windows_fill_and_then_stop_growing():
    m = model("gpt-oss-120b")
    per_layer = 2 * 8 * 64 * 2
    assert kv_bytes(m, 100, BF16) == 36 * 100 * per_layer
    assert kv_bytes(m, 100_000, BF16) == 18 * (100_000 + 128) * per_layer


def test_an_engine_that_evicts_nothing_keeps_all_of_every_layer():
    def held(name: str, tokens: int) -> float:
        return fit(resolve(model=name, hardware="nvidia-h200-sxm-141gb", engine="tensorrt-llm")).sequence_bytes(tokens)

    assert held("gpt-oss-120b", 100_000) == 100_000 * 73_728
    assert held("llama-3.1-8b", 5_024) == kv_bytes(model("llama-3.1-8b"), 5_024, BF16)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        # value heads · k · v · 4 bytes + the last 3 inputs of a convolution over 4 in bf16, per linear layer
        ("qwen3-next-80b-a3b", 36 * (32 * 128 * 128 * 4 + 8192 * 3 * 2)),
        ("nemotron-3-nano-30b-a3b", 23 * (64 * 64 * 128 * 4 + 6144 * 3 * 2)),
        ("llama-3.1-8b", 0),
    ],
)
def test_recurrent_state_does_not_depend_on_the_context(name: str, state: int):
    m = model(name)
    assert state_bytes(m) == state
    assert kv_bytes(m, 0, BF16) == state


@pytest.mark.parametrize(
    ("name", "ident", "entry"),
    [
        # bytes per token and layer of the engines' layouts: 656 + 132 for V3.2
        ("deepseek-v3.2", "fp8-ds-mla", 61 * (656 + 132)),
        ("llama-3.1-8b", "fp8", 65_536),
        ("llama-3.1-8b", "q8_0", 65_536 * 34 / 32),
        ("llama-3.1-8b", "q4_0", 65_536 * 18 / 32),
        ("llama-3.1-8b", "fp4-kv", 65_536 * 9 / 16),
    ],
)  # fmt: skip
def test_narrow_caches(name: str, ident: str, entry: float):
    assert kv_bytes_per_token(model(name), FORMATS[ident]) == pytest.approx(entry)


def test_v4_cache_layout_is_584_bytes_per_entry_and_68_per_indexer_key():
    grown = kv_bytes_per_token(model("deepseek-v4-flash"), FORMATS["fp8-fp4-ds"])
    assert grown == pytest.approx(21 * (584 + 68) / 4 + 20 * 584 / 128)


@pytest.mark.parametrize(("name", "claimed"), [("deepseek-v4-flash", 0.07), ("deepseek-v4-pro", 0.10)])
def test_v4_needs_the_published_share_of_v3_2_at_a_million_tokens(name: str, claimed: float):
    context = 2**20
    m, old = model(name), model("deepseek-v3.2")
    native = kv_bytes(m, context, FORMATS[m.native_kv_format]) / kv_bytes(old, context, FORMATS[old.native_kv_format])
    assert round(native, 2) == claimed
    assert kv_bytes(m, context, BF16) / kv_bytes(old, context, BF16) == pytest.approx(claimed, rel=0.15)


def test_v3_2_needs_84_gib_at_a_million_tokens():
    assert kv_bytes(model("deepseek-v3.2"), 2**20, BF16) / GIB == pytest.approx(83.88, abs=0.01)


def kept_whole(m: Model, tokens: int) -> float:
    """Return the cache of one sequence where windows keep every token; pooled entries beside the recent ones."""
    caching = [a for a in operators(m).attentions if a.stores_kv]
    entries = sum(a.layers * entry_bytes(a, BF16) * tokens / a.stride for a in caching)
    recent = sum(a.layers * a.kv_elems_per_token * 2 * tokens for a in caching if a.window_tokens and a.stride > 1)
    return entries + recent + state_bytes(m)


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.integers(0, 2**20), st.integers(0, 2**20))
def test_more_context_never_needs_less(m: Model, one: int, other: int):
    few, many = sorted((one, other))
    assert kv_bytes(m, few, BF16) <= kv_bytes(m, many, BF16)
    assert kv_bytes(m, many, BF16) <= kept_whole(m, many)
    assert kv_bytes(m, many, FORMATS["fp8"]) <= kv_bytes(m, many, BF16)
