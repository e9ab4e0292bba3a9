"""Quantised, searched and unusual checkpoints: their ignore lists layer by layer, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from envelope.errors import InputError
from envelope.perf.params import param_counts, weight_bytes
from envelope.plan.bring.model_import import import_model
from envelope.provenance import Source
from envelope.spec.checkpoint.config_json import Imported, Naming, model_from_config
from envelope.spec.load import load, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat

CONFIGS = Path(__file__).parents[3] / "shared" / "cases" / "configs"
FORMATS = {f.id: f for f in load_all(NumberFormat, "formats")}
SOURCE = Source(source="a test", date="2026-11-28")
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip
MOE: dict[str, Any] = LLAMA | {
    "model_type": "qwen3_5_moe_text", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "full_attention_interval": 2, "linear_num_key_heads": 2, "head_dim": 16,
    "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
}  # fmt: skip
LATENT: dict[str, Any] = LLAMA | {
    "model_type": "deepseek_v3", "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
    "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "n_shared_experts": 1, "first_k_dense_replace": 1,
}  # fmt: skip
FP8_WEIGHTS = {"num_bits": 8, "type": "float", "strategy": "channel"}


def imported(config: dict[str, Any]) -> Imported:
    return model_from_config(config, "config.json", Naming(id="x"), source=SOURCE)


def mixed(config: dict[str, Any], **quantisation: Any) -> tuple[str, dict[str, Any]]:
    model = imported(config | {"quantization_config": quantisation}).model
    return model.native_format, dict(model.format_by_part)


def groups(*targets: str, **weights: Any) -> dict[str, Any]:
    return {
        "group_0": {"targets": list(targets) or ["Linear"], "weights": weights, "input_activations": {"num_bits": 8}}
    }


@pytest.mark.parametrize(
    ("quantisation", "native", "parts"),
    [
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": [
            *(f"model.layers.{i}.self_attn.{n}_proj" for i in range(4) for n in "qkvo"),
            *(f"model.layers.{i}.mlp.{n}_proj" for i in (0, 3) for n in ("gate", "up", "down"))]},
         "fp8", {"attention": "bf16", "dense_ffn": {"bf16": 0.5}}),
        ({"quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*self_attn\\.o_proj$"],
          "config_groups": groups(**FP8_WEIGHTS)}, "fp8", {"attention_out": "bf16"}),
        ({"quant_method": "compressed-tensors", "ignore": ["lm_head", "model.layers.1.mlp.down_proj"],
          "config_groups": groups(**FP8_WEIGHTS)}, "fp8", {"ffn_out": {"bf16": 0.25}}),
        ({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["model.layers.0."]},
         "awq-int4", {"attention": {"bf16": 0.25}, "dense_ffn": {"bf16": 0.25}}),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"-:.*\\.self_attn\\..*": {}}}, "gptq-int4",
         {"attention": "bf16"}),
        ({"quant_method": "quark", "exclude": ["*self_attn*", "lm_head"],
          "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}}, "mxfp4", {"attention": "bf16"}),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head", "model.layers.2*"]},
         "nvfp4", {"attention": {"bf16": 0.25}, "dense_ffn": {"bf16": 0.25}}),
        # layers of an encoder or of a draft module are none of the model's
        ({"quant_method": "fp8", "modules_to_not_convert": ["mtp.layers.0*", "vision_tower.encoder.layers.1.mlp.fc1",
                                                            "visual", "lm_head"]}, "fp8", {}),
        # expressions that could match for ever are left out
        ({"quant_method": "compressed-tensors", "ignore": ["re:(a+)+$", "re:("], "config_groups": groups(**FP8_WEIGHTS)},
         "fp8", {}),
        ({"quant_method": "compressed-tensors", "ignore": ["lm_head"],
          "config_groups": groups(num_bits=4, type="int", group_size=32)}, "int4-g32",
         {"attention": "int4-g32", "dense_ffn": "int4-g32"}),
        ({"group_size": 64, "bits": 4, "model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 8},
          "model.layers.1.self_attn.q_proj": False}, "mlx-4bit",
         {"ffn_out": {"mlx-8bit": 0.25}, "qkv": {"bf16": 0.125}}),
    ],
)  # fmt: skip
def test_what_a_dense_checkpoint_leaves_wide(quantisation: dict[str, Any], native: str, parts: dict[str, Any]) -> None:
    assert mixed(LLAMA, **quantisation) == (native, parts)


def test_the_share_of_a_fused_product_is_that_of_its_matrices() -> None:
    # queries 64 · 64, keys and values 64 · 32 each: keys are a quarter of the fused product
    _, parts = mixed(LLAMA, quant_method="fp8", modules_to_not_convert=["self_attn.k_proj"])
    assert parts == {"qkv": {"bf16": 0.25}}


def test_a_hybrid_checkpoint_keeps_all_its_attention_although_few_layers_have_it() -> None:
    names = ["lm_head", "*.mlp.shared_expert.*", "model.visual*", "mtp.layers.0*"]
    names += [f"model.language_model.layers.{i}.linear_attn*" for i in (0, 2)]
    names += [f"model.language_model.layers.{i}.self_attn*" for i in (1, 3)]
    native, parts = mixed(MOE, quant_method="modelopt", quant_algo="NVFP4", ignore=names)
    assert native == "nvfp4"
    assert parts == {"attention": "bf16", "linear_attention": "bf16", "shared_experts": "bf16"}


def test_latent_attention_is_kept_by_its_projections() -> None:
    kept = [f"model.layers.{i}.self_attn.{n}" for i in range(4) for n in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa")]
    _, parts = mixed(LATENT, quant_method="modelopt", quant_algo="NVFP4", exclude_modules=[*kept, "model.layers.4*"])
    assert parts == {"latent_down": "bf16", "query_up": "bf16"}


def test_mixed_precision_names_what_it_quantises_and_leaves_the_rest() -> None:
    layers = {f"model.layers.{i}.mlp.experts.{e}.{n}_proj": {"quant_algo": "W4A16_NVFP4"}
              for i in range(4) for e in range(4) for n in ("gate", "up", "down")}  # fmt: skip
    layers |= {f"model.layers.{i}.self_attn.{n}_proj": {"quant_algo": "FP8"} for i in (1, 3) for n in "qkvo"}
    layers |= {"lm_head": {"quant_algo": "W4A16_NVFP4"}}
    native, parts = mixed(MOE, quant_method="modelopt", quant_algo="MIXED_PRECISION", quantized_layers=layers)
    assert native == "nvfp4-wo"
    assert parts == {
        "attention": "fp8", "linear_attention": "bf16", "shared_experts": "bf16", "lm_head": "nvfp4-wo"
    }  # fmt: skip


def test_an_unknown_algorithm_of_a_layer_is_refused() -> None:
    with pytest.raises(InputError, match="say --weights FORMAT"):
        mixed(LLAMA, quant_algo="MIXED_PRECISION", quantized_layers={"model.layers.0.mlp": {"quant_algo": "FP3"}})


@pytest.mark.parametrize("name", ["hf_quant_config.json", "that.hf_quant.json"])
def test_the_quantisation_may_stand_in_a_file_beside(tmp_path: Path, name: str) -> None:
    (tmp_path / "that.json").write_text(json.dumps(LLAMA))
    said = {"quant_algo": "FP8", "exclude_modules": ["lm_head", "*self_attn*"]}
    (tmp_path / name).write_text(json.dumps({"producer": {"name": "modelopt"}, "quantization": said}))
    found = import_model(tmp_path / "that.json", save=False).model
    assert (found.native_format, found.format_by_part) == ("fp8", {"attention": "bf16"})


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 50},
        {"architectures": ["DFlashDraftModel"]},
        {"architectures": ["DeepseekV3ForCausalLMNextN"]},
        {"architectures": ["LlamaForCausalLM"], "speculators_config": {"algorithm": "eagle3"}},
    ],
)
def test_draft_heads_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"draft head for speculative decoding.*draft_tokens"):
        imported(LLAMA | change)


def test_experts_under_a_new_name_are_counted_or_refused_never_left_out() -> None:
    routed = LLAMA | {"model_type": "mixtral", "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    found = imported(routed | {"num_routed_experts": 4}).model
    assert found.moe is not None
    assert found.moe.experts == 4
    with pytest.raises(InputError, match="speaks of experts"):
        imported(routed | {"num_bright_experts": 4})


@pytest.mark.parametrize(
    ("value", "said"), [([8] * 4, None), ([8, 8, 4, 8], "must be a whole number"), ([], "must be a whole number")]
)
def test_a_list_of_equal_numbers_stands_for_the_number(value: list[int], said: str | None) -> None:
    config = LLAMA | {"model_type": "hunyuan", "num_experts": 16, "moe_topk": value, "num_shared_expert": [1] * 4}
    if said is None:
        found = imported(config | {"attention_head_dim": 16}).model.moe
        assert found is not None
        assert (found.top_k, found.shared_width) == (8, 256)
    else:
        with pytest.raises(InputError, match=said):
            imported(config)


def test_layers_of_a_searched_architecture_have_their_own_shapes() -> None:
    """A layer with 2 query heads a key head and 2/3 · 5.25 · hidden, one without attention, one without network."""

    def block(group: int | None, multiple: float | None) -> dict[str, Any]:
        return {"attention": {"n_heads_in_group": group, "no_op": group is None},
                "ffn": {"ffn_mult": multiple, "no_op": multiple is None}}  # fmt: skip

    config = {k: v for k, v in LLAMA.items() if k not in ("intermediate_size", "num_key_value_heads")} | {
        "model_type": "nemotron-nas", "hidden_size": 512, "num_attention_heads": 8, "num_hidden_layers": 3,
        "block_configs": [block(2, 5.25), block(None, 1.3125), block(4, None)],
    }  # fmt: skip
    found = imported(config).model
    counts = param_counts(found).by_part
    # keys and values: 4 and 2 heads of 64; widths 1,792 and 448 rounded up to 512
    assert counts["attention"] == 2 * 2 * 512**2 + 2 * 512 * 64 * (4 + 2)
    assert counts["dense_ffn"] == 3 * 512 * (1792 + 512)
    assert counts["norm"] == (2 + 1 + 1 + 1) * 512
    broken = config | {"block_configs": [block(3, 1.0), block(None, 1.0), block(2, 1.0)]}
    with pytest.raises(InputError, match=r"block_configs\[0\].attention: must name n_heads_in_group"):
        imported(broken)


def test_a_first_mamba_layer_is_counted_matrix_by_matrix() -> None:
    config = LLAMA | {
        "model_type": "jamba", "attn_layer_period": 4, "attn_layer_offset": 2, "expert_layer_period": 2,
        "expert_layer_offset": 1, "num_experts": 4, "num_experts_per_tok": 2, "mamba_expand": 2, "mamba_d_state": 16,
        "mamba_d_conv": 4, "mamba_dt_rank": 8,
    }  # fmt: skip
    found = imported(config).model
    inner, given = 128, 8 + 2 * 16
    one = 64 * 2 * inner + inner * given + 8 * inner + inner * 64  # in, x, dt, out
    one += inner * (4 + 1) + inner * 16 + inner + inner  # convolution, A, D, bias of dt
    assert param_counts(found).by_part["linear_attention"] == 3 * one
    assert param_counts(found).by_part["routed_experts"] == 2 * 4 * 3 * 64 * 256
    assert {layer.ffn for layer in found.layer_counts} == {"dense", "moe"}


def test_infinity_is_an_open_limit_and_no_count(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(LLAMA | {"time_step_limit": [0.0, float("inf")]}))
    assert import_model(tmp_path / "a.json", save=False).params_total > 0
    for value in (float("inf"), float("nan")):
        (tmp_path / "b.json").write_text(json.dumps(LLAMA | {"hidden_size": value}))
        with pytest.raises(InputError):
            import_model(tmp_path / "b.json", save=False)


@pytest.mark.parametrize(
    ("vision", "params"),
    [
        # two layers of width 8 and inner 16 with every bias, patches of 2 · 3 · 4², 9 positions, four patches merged
        ({"model_type": "qwen3_vl", "depth": 2, "hidden_size": 8, "intermediate_size": 16, "patch_size": 4,
          "temporal_patch_size": 2, "num_position_embeddings": 9, "spatial_merge_size": 2, "out_hidden_size": 64},
         96 * 8 + 8 + 9 * 8 + 2 * (4 * 72 + 2 * 128 + 16 + 8 + 32) + 16 + 32 * 32 + 32 + 32 * 64 + 64),
        ({"model_type": "brand_new_tower", "hidden_size": 8}, 0),
    ],
)  # fmt: skip
def test_the_tower_of_a_model_that_sees_is_counted_or_said_to_be_unknown(vision: dict[str, Any], params: int) -> None:
    found = imported({"model_type": "llama", "text_config": LLAMA, "vision_config": vision})
    assert found.model.encoder_params == params
    assert (params == 0) == any("not known, and not counted" in text for text in found.assumptions)


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the published configurations lie outside the repository")
@pytest.mark.parametrize(
    ("name", "parameters", "native", "parts"),
    [
        # parameters as transformers 5.24 builds them on the meta device, without encoders; None where it cannot
        ("AI21-Jamba-1.5-Mini", 51_570_323_328, "bf16", {}),
        ("EXAONE-4.5-33B", 32_527_504_384, "bf16", {}),
        ("Hunyuan-A13B", 80_393_183_232, "bf16", {}),
        ("Llama-3.2-90B-Vision-Instruct", 87_666_865_192, "bf16", {}),
        ("nvidia--Llama-3_3-Nemotron-Super-49B-v1", 49_867_145_216, "bf16", {}),
        ("stepfun-ai--Step-3.7-Flash", None, "bf16", {}),
        ("nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8", None, "fp8", {}),
        ("nvidia--DeepSeek-V3.1-NVFP4", None, "nvfp4", dict.fromkeys(("latent_down", "query_up", "key_value_up"), "bf16")),
        ("nvidia--Qwen3.5-397B-A17B-NVFP4", 396_346_350_336, "nvfp4",
         dict.fromkeys(("attention", "linear_attention", "shared_experts"), "bf16")),
        ("nvidia--MiniMax-M3-NVFP4", None, "nvfp4",
         dict.fromkeys(("attention", "dense_ffn", "indexer", "shared_experts"), "mxfp8")),
    ],
)  # fmt: skip
def test_published_files_that_once_failed(
    name: str, parameters: int | None, native: str, parts: dict[str, Any]
) -> None:
    found = import_model(CONFIGS / f"{name}.json", name="x", save=False, force=True)
    assert found.model.native_format == native
    assert found.model.format_by_part == parts
    if parameters is not None:
        assert found.params_total == pytest.approx(parameters, rel=1e-5)
    whole = sum(weight_bytes(found.model, "native", FORMATS).values())
    assert whole == found.weights_bytes


def test_the_catalogs_edition_is_what_the_file_says() -> None:
    """Naming NVFP4 for the catalog's model, and importing NVIDIA's checkpoint, are the same bytes."""
    ours = load(Model, "models", "deepseek-v3.1", file="a test", path="model")
    kept = [f"model.layers.{i}.self_attn.{n}" for i in range(61)
            for n in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")]  # fmt: skip
    latent = ours.attention["latent"].model_dump()
    config = LATENT | {
        "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61, "vocab_size": 129280,
        "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
        "qk_nope_head_dim": latent["qk_nope_dim"], "qk_rope_head_dim": latent["qk_rope_dim"], "v_head_dim": 128,
        "n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "first_k_dense_replace": 3,
        "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": kept},
    }  # fmt: skip
    theirs = imported(config).model
    assert weight_bytes(theirs, "native", FORMATS) == pytest.approx(weight_bytes(ours, FORMATS["nvfp4"], FORMATS))
