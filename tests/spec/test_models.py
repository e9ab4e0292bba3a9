"""The schema of models: what it refuses; every spelling finds its model."""

import pytest

from envelope.errors import InputError
from envelope.spec.load import load, load_all, validate
from envelope.spec.model import Model


def tiny(**changes: object) -> dict[str, object]:
    """A valid two-layer model, with changes."""
    return {
        "id": "tiny",
        "name": "Tiny",
        "family": "tiny",
        "developer": "a test",
        "release_date": "2026",
        "licence": "mit",
        "hidden": 64,
        "vocab": 100,
        "tie_embeddings": False,
        "max_context_tokens": 128,
        "attention": {"full": {"kind": "gqa", "heads": 4, "kv_heads": 2, "qk_dim": 16, "v_dim": 16}},
        "dense_ffn": {"width": 128},
        "layer_pattern": [{"repeat": 2, "block": [{"attention": "full", "ffn": "dense"}]}],
        "sources": {"default": {"source": "a test", "date": "2026"}},
        **changes,
    }


def refusal(**changes: object) -> str:
    with pytest.raises(InputError) as caught:
        validate(Model, tiny(**changes), "tiny.yaml")
    return str(caught.value)


def test_a_sound_model_is_accepted():
    assert validate(Model, tiny(), "tiny.yaml").layers == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden": -1}, "hidden"),
        ({"hidden": float("nan")}, "hidden"),
        ({"params_total": 0}, "params_total"),
        ({"hiden": 64}, "nearest 'hidden'"),
        ({"release_date": "last spring"}, "release_date"),
        ({"layer_pattern": []}, "layer_pattern"),
        ({"layer_pattern": [{"repeat": 0, "block": [{"attention": "full", "ffn": "dense"}]}]}, "repeat"),
        ({"layer_pattern": [{"repeat": 1, "block": [{"attention": "half", "ffn": "dense"}]}]}, "not defined: half"),
        ({"layer_pattern": [{"repeat": 1, "block": [{"attention": "full", "ffn": "moe"}]}]}, "moe is not given"),
        ({"dense_ffn": None}, "dense_ffn is not given"),
        ({"format_by_part": {"wings": "bf16"}}, "unknown parts: wings"),
        ({"editions": {"a/b": {"format": "nvfp4", "format_by_part": {"wings": "bf16"}}}}, "unknown parts: wings"),
        ({"format_by_part": {"attention": {"bf16": 0.7, "fp8": 0.4}}}, "sum to more than 1: attention"),
        ({"format_by_part": {"ffn_in": {"bf16": 1.5}}}, "ffn_in"),
        ({"sources": {}}, "default"),
        (
            {
                "sources": {
                    "default": {"source": "a test", "date": "2026"},
                    "colour": {"source": "x y z", "date": "2026"},
                }
            },
            "colour",
        ),
    ],
)
def test_each_mistake_is_named(changes: dict[str, object], said: str):
    assert said in refusal(**changes)


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        ({"kind": "gqa", "heads": 4, "kv_heads": 3, "qk_dim": 16, "v_dim": 16}, "kv_heads=3 must divide heads=4"),
        ({"kind": "window", "heads": 4, "kv_heads": 2, "qk_dim": 16, "v_dim": 16}, "window_tokens"),
        ({"kind": "gqa", "heads": 4, "kv_heads": 2, "qk_dim": 16, "v_dim": 16, "window_tokens": 8}, "window_tokens"),
        ({"kind": "flash", "heads": 4}, "kind"),
        ({"kind": "dsa", "heads": 4, "kv_lora_rank": 8, "qk_nope_dim": 8, "qk_rope_dim": 8, "v_dim": 8}, "topk_tokens"),
        (
            {"kind": "csa", "heads": 4, "head_dim": 8, "qk_rope_dim": 2, "q_lora_rank": 4, "o_lora_rank": 4, "o_groups": 2, "window_tokens": 8, "compress_ratio": 4},
            "indexer",
        ),
    ],
)  # fmt: skip
def test_each_mistake_in_attention_is_named(attention: dict[str, object], said: str):
    assert said in refusal(attention={"full": attention})


def test_more_experts_chosen_than_there_are_is_refused():
    assert "top_k=9 is larger than experts=8" in refusal(moe={"experts": 8, "top_k": 9, "expert_width": 32})


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="nearest 'llama-3.1-8b'"):
        load(Model, "models", "lama-3.1-8b", file="command line", path="--model")


def test_every_spelling_of_a_model_finds_that_model():
    for model in load_all(Model, "models"):
        for name in (model.id, model.name, *model.aliases):
            assert load(Model, "models", name, file="a test", path="model").id == model.id
