"""``validate --local`` on a decoder of two layers."""

import argparse

import pytest

pytest.importorskip("onnxruntime", reason="the probe extra is not installed")
pytest.importorskip("onnx", reason="the probe extra is not installed")

import numpy as np

from envelope.cli import validate_local as validate_local_command
from envelope.errors import EnvelopeError, InputError
from envelope.probe.attention import HeadShape
from envelope.probe.cpu import Plan, probe_cpu
from envelope.probe.cpu_profile import cpu_profile
from envelope.probe.experts import ExpertShape
from envelope.probe.gemm import QUICK_PAIRS
from envelope.probe.power import assumed_power
from envelope.probe.timing import Effort
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load
from envelope.validation import llama_bench
from envelope.validation.local import LocalPlan, LocalRow, summaries, too_large, validate_local
from envelope.validation.local_decoder import GRANITE_MOE, LLAMA_1B, QWEN_HALF_B, DecoderShape, build
from envelope.validation.local_predict import predict
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


def test_summary_quantiles() -> None:
    def row(error: float) -> LocalRow:
        return LocalRow(
            decoder="d", number_format="fp32", phase="decode", batch=1, new_tokens=1, depth_tokens=0,
            predicted_s=1.0 + error, measured_s=1.0, spread_frac=0.0, noise_frac=0.0, experts=False,
        )  # fmt: skip

    (found,) = summaries([row(e) for e in (0.02, -0.04, 0.06, -0.08, 0.3)])
    assert found.median_error_frac == pytest.approx(0.06)
    assert found.worst_error_frac == pytest.approx(0.3)
    assert not found.met


BENCH_JSON = """[
 {"n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ts": 90.0, "samples_ts": [88.0, 90.0, 92.0]},
 {"n_prompt": 0, "n_gen": 32, "n_depth": 2048, "avg_ts": 20.0, "samples_ts": [19.0, 20.0, 21.0]}
]"""


def test_llama_bench_is_set_beside_the_engines_own_constants() -> None:
    records = llama_bench.parse_llama_bench(BENCH_JSON, "llama-bench")
    hardware = load(HardwareProfile, "hardware_profiles", "amd-ryzen-9950x-64gb", file="test", path="")
    prefill, decode = llama_bench.compare_llama_bench(records, hardware, "llama-3.2-1b", "q4_0")
    assert prefill.measured_s == pytest.approx(512 / 92)
    assert decode.measured_s == pytest.approx(1 / 21)
    assert (decode.phase, decode.depth_tokens) == ("decode", 2048)
    # 0.7 GB of weights at no more than the device's bandwidth.
    assert decode.predicted_s > 0.6e9 / hardware.device_memory.bandwidth_bytes_per_s
    assert prefill.predicted_s > decode.predicted_s


@pytest.mark.parametrize("text", ["", "{}", '[{"x": 1}]', "llama: error"])
def test_llama_bench_without_results_is_an_error(text: str) -> None:
    with pytest.raises(EnvelopeError, match="llama-bench gave"):
        llama_bench.parse_llama_bench(text, "llama-bench")


def test_a_missing_llama_bench_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"--llama-bench.*no such file(.|\n)*--gguf"):
        llama_bench.run_llama_bench(tmp_path / "absent", tmp_path / "none.gguf", threads=1)


def test_a_failing_llama_bench_says_why(tmp_path) -> None:
    program, gguf = tmp_path / "llama-bench", tmp_path / "m.gguf"
    program.write_text("#!/bin/sh\necho 'cannot load model' >&2\nexit 1\n")
    program.chmod(0o755)
    gguf.write_text("")
    with pytest.raises(EnvelopeError, match="status 1: cannot load model"):
        llama_bench.run_llama_bench(program, gguf, threads=1)


def test_llama_bench_needs_its_model_and_the_machines_profile() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    validate_local_command.add_local_arguments(parser)
    options = parser.parse_args(["--local", "--llama-bench", "x"])
    with pytest.raises(InputError, match=r"--gguf(.|\n)*--model(.|\n)*--weights(.|\n)*--profile"):
        validate_local_command.run_local(options)
