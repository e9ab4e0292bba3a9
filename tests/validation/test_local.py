"""``validate --local`` on a decoder of two layers."""

import argparse

import pytest

pytest.importorskip("onnxruntime", reason="the probe extra is not installed")
pytest.importorskip("onnx", reason="the probe extra is not installed")

import numpy as np

from envelope.cli import validate_local as validate_local_command
from envelope.errors import InputError
from envelope.sensors.attention import HeadShape
from envelope.sensors.cpu import Plan, probe_cpu
from envelope.sensors.cpu_profile import cpu_profile
from envelope.sensors.decoder_shape import GRANITE_MOE, LLAMA_1B, QWEN_HALF_B, DecoderShape, model_record
from envelope.sensors.experts import ExpertShape
from envelope.sensors.gemm import QUICK_PAIRS
from envelope.sensors.llama_bench import parse_llama_bench
from envelope.sensors.power import assumed_power
from envelope.sensors.timing import Effort
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load
from envelope.validation import llama_bench
from envelope.validation.local import LocalPlan, LocalResult, too_large, validate_local
from envelope.validation.local_decoder import build
from envelope.validation.local_predict import predict
from envelope.validation.local_score import LocalRow, summaries
from envelope.validation.local_text import COLUMNS, chart, summary_lines, table_rows

DENSE = DecoderShape("dense", 2, 256, HeadShape(4, 2, 64), 512, 1000)
SPARSE = DecoderShape("sparse", 2, 256, HeadShape(4, 2, 64), 128, 1000, ExpertShape(4, 2, 256, 128))
TINY = Plan(
    mode="custom", effort=Effort(2, 0.02, 0), patience_s=0.0, formats=("fp32", "int4_wo"), rows=(1, 8, 128),
    pairs=QUICK_PAIRS,
    extra_formats=(), heads=(HeadShape(4, 2, 64),), batches=(1, 2), contexts=(16, 128), chunks=((16, 0), (128, 0)),
    expert_formats=("int4_wo",), expert_tokens=(1, 8), element_rows=(1, 64), cold_bytes=16e6, array_bytes=4e6,
)  # fmt: skip


@pytest.fixture(scope="module")
def profile() -> HardwareProfile:
    found = probe_cpu(TINY, lambda _share, _what: None)
    return cpu_profile(found, "here", power=assumed_power(1))


def test_parameter_counts_of_the_decoders_are_the_published_ones() -> None:
    """Weights of products, without embedding (Qwen and Llama tie it with the head), norms and biases."""
    assert QWEN_HALF_B.linear_weights == pytest.approx(494.0e6, rel=0.005)
    assert LLAMA_1B.linear_weights == pytest.approx(1.236e9, rel=0.005)
    # Published: 1.3 B in total.
    assert GRANITE_MOE.linear_weights + GRANITE_MOE.expert_weights == pytest.approx(1.33e9, rel=0.03)


@pytest.mark.parametrize(("shape", "key"), [(DENSE, "fp32"), (DENSE, "int4_wo"), (SPARSE, "int4_wo")])
def test_every_decoder_gives_finite_logits_for_every_sequence(shape: DecoderShape, key: str) -> None:
    decoder = build(shape, key, 40, 1)
    for batch, new, depth in ((1, 16, 0), (3, 1, 0), (2, 1, 39)):
        step = decoder.step(batch, new, depth)
        step()
        logits = step.outputs()[-1]
        assert logits.shape == (batch, 1, shape.vocab)
        assert np.isfinite(logits).all()
        assert 0.1 < float(logits.std()) < 10.0


def test_every_expert_that_a_token_goes_to_has_a_weight() -> None:
    """The runtime leaves experts of no weight out, whose time the prediction counts."""
    experts = SPARSE.experts
    assert experts is not None
    logits = [v.numpy() for v in build(SPARSE, "int4_wo", 40, 1).step(1, 16, 0).kept if v.shape() == [16, 4]]
    assert len(logits) == SPARSE.layers
    for one in logits:
        chosen = np.sort(one, axis=1)[:, -experts.top_k :]
        weights = np.exp(chosen - chosen.max(axis=1, keepdims=True))
        assert (weights / weights.sum(axis=1, keepdims=True)).min() > 1e-3


def test_prefill_fills_the_cache_in_place() -> None:
    decoder = build(DENSE, "fp32", 8, 1)
    step = decoder.step(1, 4, 0)
    caches = [value for value in step.kept if value.shape() == [1, 2, 8, 64]]
    before = [cache.numpy().copy() for cache in caches]
    step()
    for old, cache in zip(before, caches, strict=True):
        new = cache.numpy()
        assert not np.array_equal(old[:, :, :4], new[:, :, :4])
        assert np.array_equal(old[:, :, 4:], new[:, :, 4:])


def test_predictions_grow_with_work(profile: HardwareProfile) -> None:
    assert predict(profile, LLAMA_1B, "int4_wo", 1, 1, 0).step_s > predict(profile, DENSE, "int4_wo", 1, 1, 0).step_s
    short, long = (predict(profile, LLAMA_1B, "int4_wo", 1, 1, depth).attention_s for depth in (128, 2048))
    assert long > short
    small, large = (predict(profile, LLAMA_1B, "int4_wo", 1, new, 0).linear_s for new in (128, 2048))
    assert large > small
    parts = predict(profile, SPARSE, "int4_wo", 1, 1, 0)
    assert parts.experts_s > 0
    assert parts.step_s == pytest.approx(
        parts.linear_s + parts.attention_s + parts.experts_s + parts.elementwise_s + parts.call_s
    )


def test_a_whole_run(profile: HardwareProfile) -> None:
    plan = LocalPlan(((DENSE, "fp32"), (SPARSE, "int4_wo")), (16, 32), (1, 2), (0, 32), Effort(2, 0.02, 0))
    result = validate_local(lambda _share, _what: None, profile=profile, plan=plan)
    assert result.complete
    assert len(result.rows) == 2 * (2 * 2 + 2)
    assert {s.group for s in result.summaries} == {"decode", "prefill", "experts"}
    assert all(r.predicted_s > 0 and r.measured_s > 0 for r in result.rows)
    assert all(len(row) == len(COLUMNS) for row in table_rows(result))
    drawn = chart(result.rows).splitlines()
    assert len(drawn) == len(result.rows) + 1
    assert all("●" in line for line in drawn[1:])
    assert any("noise" in line for line in summary_lines(result))


def test_a_format_that_was_not_probed_is_a_clear_error(profile: HardwareProfile) -> None:
    with pytest.raises(InputError, match=r"linear_table/int8.*was not measured"):
        predict(profile, DENSE, "int8", 1, 1, 0)


def test_a_decoder_beyond_the_free_memory_is_skipped_with_its_size() -> None:
    huge = DecoderShape("huge", 100, 16384, HeadShape(128, 8, 128), 53248, 128_256)
    plan = LocalPlan(((huge, "fp32"),), (16,), (1,), (0,), Effort())
    assert "GB are free" in too_large(huge, "fp32", plan)
    assert too_large(DENSE, "fp32", plan) == ""


def row(
    error: float, noise_frac: float = 0.0, memory_frac: float | None = None, runner: str = "onnxruntime"
) -> LocalRow:
    return LocalRow(
        runner=runner, decoder="d", number_format="fp32", phase="decode", batch=1, new_tokens=1, depth_tokens=0,
        predicted_s=1.0 + error, measured_s=1.0, spread_frac=0.0, noise_frac=noise_frac, memory_frac=memory_frac,
        experts=False,
    )  # fmt: skip


def test_summary_quantiles() -> None:
    (found,) = summaries([row(e) for e in (0.02, -0.04, 0.06, -0.08, 0.3)])
    assert found.everything.median_frac == pytest.approx(0.06)
    assert found.everything.worst_frac == pytest.approx(0.3)
    assert found.everything.bias_frac == pytest.approx(0.02)
    assert found.undisturbed == found.everything
    assert found.met is False


def test_disturbed_runs_are_counted_apart() -> None:
    """Others' processor time, or memory slower than in the profile, spoils a run; targets hold for the others."""
    quiet = [row(e, memory_frac=1.0) for e in (0.01, -0.02, 0.03)]
    disturbed = [row(-0.6, noise_frac=0.3), row(-0.7, memory_frac=0.6)]
    (found,) = summaries([*quiet, *disturbed])
    assert found.disturbed_runs == 2
    assert found.undisturbed.p90_frac == pytest.approx(0.03)
    assert found.everything.p90_frac == pytest.approx(0.7)
    assert found.met is True
    (noisy,) = summaries([quiet[0], *disturbed])
    assert noisy.met is None
    # Noise only adds to errors: a target that is met in spite of it is met.
    (good,) = summaries([quiet[0], *(row(e, memory_frac=0.6) for e in (0.04, -0.08))])
    assert (good.met, good.judged) == (True, "everything")
    assert [s.runner for s in summaries([*quiet, row(0.5, runner="llama.cpp")])] == ["onnxruntime", "llama.cpp"]


def test_a_profile_that_was_disturbed_itself_is_told_by_the_memory() -> None:
    result = LocalResult(
        profile="p", rows=(row(0.1, memory_frac=2.0), row(0.2, memory_frac=2.0)), summaries=(), skipped=(),
        foreign_cpu_frac=None, steal_cpu_frac=None, probe_warnings=(), complete=True,
    )  # fmt: skip
    assert any("memory reads 2.0 times as fast as in the profile" in line for line in summary_lines(result))
    calm = result.model_copy(update={"rows": (row(0.1, memory_frac=1.0),)})
    assert not any("memory reads" in line for line in summary_lines(calm))


def test_noise_and_an_interruption_are_told_below_the_verdicts() -> None:
    rows = (row(0.1, memory_frac=0.61), row(0.2, memory_frac=1.06))
    result = LocalResult(
        profile="p", rows=rows, summaries=tuple(summaries(rows)), skipped=(), foreign_cpu_frac=0.01,
        steal_cpu_frac=0.0, probe_warnings=(), complete=False,
    )  # fmt: skip
    lines = summary_lines(result)
    assert "memory around the runs read at 61 % to 106 % of the profile's median rate" in lines
    assert lines[-1].startswith("interrupted")
    assert not any(
        line.startswith("interrupted") for line in summary_lines(result.model_copy(update={"complete": True}))
    )


BENCH_JSON = """[
 {"n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ts": 90.0, "samples_ts": [88.0, 90.0, 92.0]},
 {"n_prompt": 0, "n_gen": 32, "n_depth": 2048, "avg_ts": 20.0, "samples_ts": [19.0, 20.0, 21.0]}
]"""


def test_llama_bench_is_set_beside_the_engines_own_constants() -> None:
    records = parse_llama_bench(BENCH_JSON, "llama-bench")
    hardware = load(HardwareProfile, "hardware_profiles", "amd-ryzen-9950x-64gb", file="test", path="")
    prefill, decode = llama_bench.compare_llama_bench(records, hardware, "llama-3.2-1b", "q4_0")
    assert prefill.measured_s == pytest.approx(512 / 90)
    assert decode.measured_s == pytest.approx(1 / 20)
    assert (decode.phase, decode.depth_tokens) == ("decode", 2048)
    # 0.7 GB of weights at no more than the device's bandwidth.
    assert decode.predicted_s > 0.6e9 / hardware.device_memory.bandwidth_bytes_per_s
    assert prefill.predicted_s > decode.predicted_s


def test_a_made_up_decoder_is_predicted_as_the_catalogs_model_of_its_shape() -> None:
    records = parse_llama_bench(BENCH_JSON, "llama-bench")
    for shape, model in ((LLAMA_1B, "llama-3.2-1b"), (QWEN_HALF_B, "qwen2.5-0.5b")):
        ours, catalog = (
            llama_bench.compare_llama_bench(records, "amd-ryzen-9950x-64gb", m, "q4_0")
            for m in (model_record(shape), model)
        )
        for one, other in zip(ours, catalog, strict=True):
            assert one.predicted_s == pytest.approx(other.predicted_s, rel=0.01)


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser()
    found.add_argument("--json", action="store_true")
    validate_local_command.add_local_arguments(found)
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gguf", "x"], r"--llama-bench: is required(.|\n)*--model(.|\n)*--weights(.|\n)*--gguf.*no such file"),
        (["--llama-bench", "absent"], r"--llama-bench.*'absent' no such file"),
        (["--profile", "absent.yaml"], r"--profile.*no such file"),
        (["--device", "gpu", "--llama-bench", "x"], r"runs on the processor"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(parser, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate_local_command.run_local(parser.parse_args(["--local", *arguments]))


def test_a_torch_decoder_gives_finite_logits_for_every_sequence() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from envelope.validation.torch_decoder import TorchDecoder

    torch.manual_seed(0)
    decoder = TorchDecoder(torch, DENSE, torch.device("cpu"), torch.float32)
    for batch, new, depth in ((1, 8, 0), (3, 1, 0), (2, 1, 16)):
        logits = decoder.step(batch, new, depth)()
        assert tuple(logits.shape) == (batch, DENSE.vocab)
        assert bool(torch.isfinite(logits).all())
        assert 0.1 < float(logits.std()) < 10.0


def test_a_torch_decoder_is_set_beside_a_prediction() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from envelope.validation.local_gpu import GpuRuns, compare_decoder

    hardware = load(HardwareProfile, "hardware_profiles", "nvidia-h100-sxm-80gb", file="test", path="")
    runs = GpuRuns(DENSE, (16, 64), ((1, 0), (2, 32)), Effort(2, 0.02, 0))
    result = compare_decoder(torch, torch.device("cpu"), hardware, runs, lambda _share, _what: None)
    assert [(r.runner, r.phase, r.batch) for r in result.rows] == [
        ("torch", "decode", 1), ("torch", "decode", 2), ("torch", "prefill", 1), ("torch", "prefill", 1),
    ]  # fmt: skip
    assert all(r.predicted_s > 0 and r.measured_s > 0 for r in result.rows)
    assert any("PyTorch, decode" in line for line in summary_lines(result))
