"""Editions of a model: bytes counted by hand, names that mean one, and what is refused."""

import numpy as np
import pytest

from envelope.errors import InputError
from envelope.perf.costs import bench, token_costs
from envelope.perf.operators import Linear
from envelope.perf.params import encoder_bytes, part_format, part_shares, weight_bytes
from envelope.perf.replica import resolve
from envelope.perf.work import operators, param_counts
from envelope.spec.checkpoint.modules import head_of, matrices_of
from envelope.spec.editions import in_edition, quantises, shares_of, weights_named
from envelope.spec.load import load, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import PROJECTIONS, NumberFormat
from envelope.units import GIB

MODELS = load_all(Model, "models")
FORMATS = {f.id: f for f in load_all(NumberFormat, "formats")}


def model(name: str) -> Model:
    return load(Model, "models", name, file="a test", path="model")


def total(m: Model, weights: str) -> float:
    m, number_format = weights_named(m, weights, file="a test", path="weights")
    return sum(weight_bytes(m, number_format or "native", FORMATS).values())


def test_llama_405b_in_fp8_keeps_attention_and_two_layers_wide() -> None:
    # 126 layers: attention 2·h² + 2·h·1024, network 3·h·53,248, of which layers 0 and 125 stay in bf16
    h, attention, network, table = 16384, 126 * (2 * 16384**2 + 2 * 16384 * 1024), 3 * 16384 * 53248, 128256 * 16384
    by_hand = 2 * attention + network * (124 + 2 * 2) + 2 * 2 * table + 2 * (2 * 126 + 1) * h
    assert total(model("llama-3.1-405b"), "fp8") == pytest.approx(by_hand, rel=1e-6)
    # vLLM printed 57.752 GiB on each of 8 devices (github.com/vllm-project/vllm/issues/6746), of an upload with
    # keys and values of 16 heads: 126 layers · 2 · h · 1024 more in bf16.
    first_upload = by_hand + 2 * 126 * 2 * h * 1024
    assert first_upload / 8 / GIB == pytest.approx(57.752, rel=2e-3)


def test_deepseek_in_nvfp4_quantises_the_output_projection_of_attention_alone() -> None:
    m = model("deepseek-v3.1")
    down, query, up = 7168 * (1536 + 576), 1536 * 128 * 192, 512 * 128 * 256
    out = 128 * 128 * 7168
    parts = weight_bytes(m, FORMATS["nvfp4"], FORMATS)
    assert parts["attention"] == pytest.approx(61 * (2 * (down + query + up) + out * 4.5 / 8))
    assert parts["routed_experts"] == pytest.approx(58 * 256 * 3 * 7168 * 2048 * 4.5 / 8)
    assert part_format(m, "attention", FORMATS["nvfp4"], FORMATS).id == "nvfp4"  # 117 of 187 M weights a layer
    assert part_shares(m, "attention", FORMATS["nvfp4"], FORMATS)["bf16"] == pytest.approx(
        (down + query + up) / (down + query + up + out)
    )


def test_a_step_reads_what_is_stored() -> None:
    """Decoding one sequence of a dense model moves every weight but the embedding once, in its own format."""
    replica = resolve(model="llama-3.1-405b", hardware="nvidia-h100-sxm-80gb", weights="fp8")
    one = np.array([1.0])
    moved = sum(
        float(c.bytes[0])
        for c in token_costs(bench(replica), one)
        if c.name in {"qkv", "attention_out", "ffn_in", "ffn_out"}
    )
    parts = weight_bytes(replica.model, FORMATS["fp8"], FORMATS)
    activations = sum(2.0 * x.layers * (x.n + x.k) for x in operators(replica.model).linears if x.part != "lm_head")
    assert moved == pytest.approx(parts["attention"] + parts["dense_ffn"] + activations, rel=1e-5)


def test_an_edition_is_named_by_its_repository_and_the_first_of_a_format_by_the_format() -> None:
    m = model("llama-3.1-405b")
    meta, nvidia = "meta-llama/Llama-3.1-405B-Instruct-FP8", "nvidia/Llama-3.1-405B-Instruct-FP8"
    assert total(m, "fp8") == total(m, meta) > 1.15 * total(m, nvidia)
    assert total(m, nvidia) == total(m, nvidia.lower())
    chosen, number_format = weights_named(m, nvidia, file="a test", path="weights")
    assert number_format == FORMATS["fp8"]
    assert in_edition(m, nvidia) is chosen  # one object, so that step tables are shared
    assert weights_named(m, "native", file="a test", path="weights") == (m, None)
    assert resolve(model=m, hardware="nvidia-h100-sxm-80gb", weights=nvidia).model is chosen


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("llama-3.1-8b", "int4-g32", "would quantise nothing of llama-3.1-8b: it leaves attention, dense_ffn as"),
        ("llama-3.1-8b", "mxfp4_moe", "would quantise nothing"),
        ("qwen3-30b-a3b", "fp4-ue8m0-g32", "a format of deepseek-v4 checkpoints alone, not of qwen3-30b-a3b"),
        ("llama-3.1-8b", "nvidia/DeepSeek-V3.1-NVFP4", "an edition of deepseek-v3.1, not of llama-3.1-8b"),
        ("llama-3.1-8b", "nobody/Llama-3.1-8B-INT3", "unknown"),
        ("llama-3.1-8b", "fp7", "unknown"),
    ],
)
def test_weights_that_a_model_does_not_come_in_are_refused_with_the_nearest(name: str, weights: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(model=name, hardware="nvidia-h100-sxm-80gb", weights=weights, file="scenario.yaml")
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"scenario.yaml: weights: '{weights}'")
    assert said in str(problem)
    assert "nearest '" in str(problem)


def test_the_nearest_formats_do_quantise_the_model() -> None:
    with pytest.raises(InputError, match=r"nearest '(?P<near>[^']+)'") as caught:
        weights_named(model("llama-3.1-8b"), "int4-g32", file="a test", path="weights")
    near = str(caught.value).split("nearest '")[1].split("'")[0]
    assert quantises(model("llama-3.1-8b"), FORMATS[near])
    assert FORMATS[near].family == "int"
    assert abs(FORMATS[near].bits_per_weight - 4.5) < 0.5


def test_experts_may_come_in_a_format_of_experts() -> None:
    m = model("qwen3-30b-a3b")
    assert weights_named(m, "int4-g32", file="a test", path="weights")[1] == FORMATS["int4-g32"]
    assert weights_named(model("deepseek-v4-flash"), "fp4-ue8m0-g32", file="a test", path="weights")[1] is not None


@pytest.mark.parametrize("m", MODELS, ids=lambda m: m.id)
def test_shares_of_every_edition_sum_to_one_and_only_what_is_named_differs(m: Model) -> None:
    for checkpoint in m.editions:
        inside, number_format = weights_named(m, checkpoint, file="a test", path="weights")
        assert number_format is not None
        for part, projection in {(x.part, x.name) for x in operators(m).linears}:
            shares = shares_of(inside, part, number_format, FORMATS, projection=projection)
            assert sum(shares.values()) == pytest.approx(1.0)
            assert all(share > 0 for share in shares.values())
        assert total(m, checkpoint) < 2.01 * param_counts(m).total


@pytest.mark.parametrize("m", MODELS, ids=lambda m: m.id)
def test_matrices_by_their_names_are_those_that_a_step_multiplies(m: Model) -> None:
    """Two countings of one model: the names that checkpoints use, and the operators of the step times."""
    named: dict[tuple[str, str], int] = {}
    for layer, times in m.layer_counts.items():
        for matrix in matrices_of(m, layer):
            key = (matrix.part, matrix.projection)
            named[key] = named.get(key, 0) + times * matrix.params
    head = head_of(m)
    named[head.part, head.projection] = head.params
    ops = operators(m)
    multiplied: dict[tuple[str, str], int] = {}
    for x in (
        *ops.linears,
        *(Linear("routed_experts", "routed_experts", 1, e.params - e.bias_params, 1) for e in ops.experts),
    ):
        if x.part != "other":
            multiplied[x.part, x.name] = multiplied.get((x.part, x.name), 0) + x.params
    assert named == multiplied
    assert all(PROJECTIONS.get(name, part) == part for part, name in named)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        # the whole checkpoint as the hub counts it, less the language model
        ("gemma-3-27b", 27_432_406_640 - 27_009_346_304),
        ("llama-4-scout", 108_641_793_536 - 107_769_861_120),
        ("qwen3-vl-8b", 8_767_123_696 - 8_190_735_360),
        ("mistral-small-3.2-24b", 24_011_361_280 - 23_572_403_200),
        # MoonViT: 27 layers of width 1152 (bias everywhere), 64² positions, patches of 14²; a merger 4·1152 → 7168
        ("kimi-k2.5", 27 * (4 * (1152**2 + 1152) + 2 * 1152 * 4304 + 4304 + 5 * 1152) + 64**2 * 1152 + 3 * 14**2 * 1152
         + 3 * 1152 + 2 * 1152 + 4608**2 + 4608 + 4608 * 7168 + 7168),
    ],
)  # fmt: skip
def test_encoders_counted_by_hand(name: str, params: int) -> None:
    assert model(name).encoder_params == params
    assert encoder_bytes(model(name), FORMATS) == 2 * params


def test_every_model_that_sees_has_an_encoder_with_a_source() -> None:
    for m in MODELS:
        sees = set(m.modalities) - {"text"}
        assert bool(sees) == (m.encoder_params > 0), m.id
        assert not sees or "encoder_params" in m.sources, m.id
