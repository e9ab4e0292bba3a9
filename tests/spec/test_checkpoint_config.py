"""``config.json`` of published and of small models, against the catalog and against parameters counted by transformers."""

import json
from pathlib import Path
from typing import Any

import pytest

from envelope.errors import InputError
from envelope.perf.params import param_counts
from envelope.provenance import Source
from envelope.spec.checkpoint.architecture import Architecture, Traits
from envelope.spec.checkpoint.config_json import Imported, Naming, model_from_config, slug
from envelope.spec.checkpoint.pattern import blocks_of
from envelope.spec.checkpoint.tensors import traits_beside
from envelope.spec.load import load, load_all
from envelope.spec.model import Layer, Model

DATA = Path(__file__).parent / "data"
PUBLISHED: dict[str, Any] = json.loads((DATA / "published_configs.json").read_text())["models"]
SMALL: dict[str, Any] = json.loads((DATA / "small_configs.json").read_text())["models"]
SOURCE = Source(source="a test", date="2026-11-23")

# The reference code keeps the router's correction in a buffer, or has no such norm; both are counted here.
COUNTED_BEYOND = {
    "phi": 0.001, "cohere": 0.0004, "cohere#qk": 0.0004, "cohere2": 0.0004, "olmo": 0.0008, "deepseek_v3": 1e-6,
    "deepseek_v32": 1e-6, "glm4_moe": 1e-6, "glm4_moe_lite": 1e-6, "minimax_m2": 2e-6,
    "falcon": 0.001, "nemotron_h": 1e-6,
}  # fmt: skip


def imported(config: dict[str, Any], *, tensors: Traits | None = None, **naming: Any) -> Imported:
    return model_from_config(config, "config.json", Naming(id="x", **naming), source=SOURCE, tensors=tensors)


def problems(config: dict[str, Any], **naming: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        imported(config, **naming)
    return [str(p) for p in caught.value.problems]


@pytest.mark.parametrize("name", [n for n, each in PUBLISHED.items() if each["parameters"]])
def test_a_published_model_has_the_parameters_that_the_reference_code_builds(name: str) -> None:
    found = imported(PUBLISHED[name]["config"])
    assert param_counts(found.model).total == pytest.approx(PUBLISHED[name]["parameters"], rel=5e-6)


@pytest.mark.parametrize("name", SMALL)
def test_every_type_has_the_parameters_that_the_reference_code_builds(name: str) -> None:
    found = imported(SMALL[name]["config"])
    surplus = param_counts(found.model).total / SMALL[name]["parameters"] - 1
    assert 0 <= surplus <= COUNTED_BEYOND.get(name, 0)


def layers_of(model: Model) -> list[Any]:
    flat = [layer for blocks in model.layer_pattern for _ in range(blocks.repeat) for layer in blocks.block]
    return [(model.attention[la.attention] if la.attention else None, la.ffn, la.ffn_width) for la in flat]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_agrees_with_the_catalog_layer_by_layer(name: str) -> None:
    ours = load(Model, "models", PUBLISHED[name]["catalog"], file="a test", path="model")
    found = imported(PUBLISHED[name]["config"]).model
    assert layers_of(found) == layers_of(ours)
    assert found.dense_ffn == ours.dense_ffn
    assert (found.moe and found.moe.model_dump(exclude={"routing"})) == (
        ours.moe and ours.moe.model_dump(exclude={"routing"})
    )
    for field in ("hidden", "vocab", "tie_embeddings", "norms_per_sublayer", "norm_bias", "lm_head_bias",
                  "residual_streams", "native_kv_format", "native_format"):  # fmt: skip
        assert getattr(found, field) == getattr(ours, field), field
    assert (found.mtp is None) == (ours.mtp is None)
    assert not imported(PUBLISHED[name]["config"]).unread or "MiniMax" in name


@pytest.mark.parametrize(
    ("rope", "tokens"),
    [
        (None, 4096),
        ({"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}, 163840),
        ({"type": "linear", "factor": 4.0}, 16384),
        ({"type": "dynamic", "factor": 2}, 8192),
        ({"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 512}, 4096),
        ({"rope_type": "longrope", "factor": 32}, 4096),
        ({"rope_type": "yarn", "factor": "many"}, 4096),
    ],
)
def test_rope_scaling_lengthens_the_context_where_the_file_gives_the_length_before_it(rope: Any, tokens: int) -> None:
    config = SMALL["llama"]["config"] | {"max_position_embeddings": 4096, "rope_scaling": rope, "rope_parameters": None}
    assert imported(config).model.max_context_tokens == tokens


def test_gemma_3_gives_the_length_after_linear_scaling_and_leaves_its_heads_out() -> None:
    published = {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "num_hidden_layers": 62,
            "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "sliding_window": 1024,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152},
    }  # fmt: skip
    found = imported(published)
    ours = load(Model, "models", "gemma-3-27b", file="a test", path="model")
    assert found.model.max_context_tokens == ours.max_context_tokens
    assert layers_of(found.model) == layers_of(ours)
    assert any("vocab_size" in text for text in found.assumptions)


def test_an_unknown_type_decides_nothing_and_says_what_to_say() -> None:
    found = problems(SMALL["qwen3"]["config"] | {"model_type": "brand_new", "tie_word_embeddings": None})
    assert any("qk_norm" in p and "--trait qk_norm=none|head|full, or --like TYPE" in p for p in found)
    assert any("tie_embeddings" in p for p in found)


def test_an_unknown_type_is_decided_by_a_known_one_by_traits_or_by_tensors() -> None:
    config = SMALL["qwen3"]["config"] | {"model_type": "brand_new"}
    expected = SMALL["qwen3"]["parameters"]
    assert param_counts(imported(config, like="qwen3").model).total == expected
    said = Traits(
        qkv_bias=False, o_bias=False, qk_norm="head", sinks=False, output_gate=False, ffn_matrices=3, ffn_bias=False,
        norms_per_sublayer=1, norm_bias=False, lm_head_bias=False,
    )  # fmt: skip
    assert param_counts(imported(config, traits=said).model).total == expected
    assert param_counts(imported(config, tensors=said).model).total == expected


def test_the_users_word_comes_before_the_type() -> None:
    assert imported(SMALL["llama"]["config"], traits=Traits(qkv_bias=True)).model.attention["full"].qkv_bias  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hidden_size": None}, "hidden_size: is required"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers: 1000000000000 must be a whole number from 1 to 1,000"),
        ({"num_attention_heads": 0}, "num_attention_heads: 0 must be"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: 3 must divide the 8 heads"),
        ({"vocab_size": "many"}, "vocab_size: 'many' must be a whole number"),
        ({"hidden_size": True}, "hidden_size: True must be"),
        ({"layer_types": ["full_attention"]}, "has 1 entries for 8 layers"),
        ({"layer_types": ["magic"] * 8}, "'magic' kind of layer"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"quantization_config": {"quant_method": "aqlm"}}, "say --weights FORMAT"),
        ({"quantization_config": [4]}, "must be an object"),
        ({"rope_scaling": 4}, "must be an object"),
    ],
)
def test_what_is_wrong_or_cannot_be_described_is_said(change: dict[str, Any], expected: str) -> None:
    assert any(expected in p for p in problems(SMALL["llama"]["config"] | change)), problems(
        SMALL["llama"]["config"] | change
    )


@pytest.mark.parametrize("kind", ["kimi_linear", "gemma3n_text", "minimax_text_01"])
def test_structures_beyond_the_catalog_are_refused(kind: str) -> None:
    assert any("cannot be described" in p for p in problems(SMALL["llama"]["config"] | {"model_type": kind}))


@pytest.mark.parametrize(
    ("quantisation", "expected"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "gptq", "bits": 4}, "gptq-int4"),
        ({"quant_method": "awq", "bits": 4}, "awq-int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-nf4"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"group_size": 64, "bits": 4}, "mlx-4bit"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"},
          "input_activations": {"num_bits": 8}}}}, "int8"),
    ],
)  # fmt: skip
def test_the_quantisation_names_the_format(quantisation: dict[str, Any], expected: str) -> None:
    assert imported(SMALL["llama"]["config"] | {"quantization_config": quantisation}).model.native_format == expected


def test_the_index_of_the_weights_decides_what_the_configuration_leaves_open(tmp_path: Path) -> None:
    names = [f"model.layers.0.{n}" for n in (
        "self_attn.q_proj.weight", "self_attn.q_proj.bias", "self_attn.sinks", "mlp.gate_proj.weight",
        "mlp.up_proj.weight", "input_layernorm.weight")]  # fmt: skip
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    shown, name = traits_beside(tmp_path / "config.json")
    assert name == "model.safetensors.index.json"
    assert (shown.qkv_bias, shown.o_bias, shown.sinks, shown.ffn_matrices) == (True, False, True, 3)
    assert shown.qk_norm == "none"
    assert traits_beside(tmp_path / "elsewhere" / "config.json") == (Traits(), "")


def test_blocks_repeat_and_give_back_every_layer() -> None:
    kinds = [Layer(attention=name, ffn="dense") for name in "abc"]
    order = [0, 0, 0, 1, 0, 1, 0, 1, 2, 1, 1, 2]
    blocks = blocks_of([kinds[i] for i in order])
    again = [layer for b in blocks for _ in range(b.repeat) for layer in b.block]
    assert again == [kinds[i] for i in order]
    assert len(blocks) < len(order)


def test_conventions_name_every_trait_and_no_type_twice() -> None:
    seen: dict[str, str] = {}
    for record in load_all(Architecture, "architectures"):
        for name in (record.id, *record.aliases):
            assert seen.setdefault(name, record.id) == record.id
        assert all(getattr(record.traits, name) is not None for name in Traits.model_fields), record.id
        assert set(record.switches) <= set(Traits.model_fields)


@pytest.mark.parametrize(
    ("text", "expected"), [("Qwen/Qwen3 8B", "qwen-qwen3-8b"), ("ÄÖ", "imported-model"), ("../..", "imported-model")]
)
def test_an_id_is_a_plain_file_name(text: str, expected: str) -> None:
    assert slug(text) == expected
