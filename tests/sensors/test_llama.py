"""Random-weight files for llama.cpp, its llama-bench, and the kernel rates learned from it."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from envelope.errors import EnvelopeError, InputError
from envelope.perf.replica import resolve
from envelope.sensors.attention import HeadShape
from envelope.sensors.decoder_shape import LLAMA_1B, DecoderShape, decode_s, model_record, prefill_s
from envelope.sensors.experts import ExpertShape
from envelope.sensors.llama_bench import BenchTest, LlamaBench, parse_llama_bench
from envelope.sensors.llama_rates import with_llama_rates
from envelope.sensors.random_gguf import more_bits, random_gguf
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load

DENSE = DecoderShape("dense", 16, 256, HeadShape(4, 2, 64), 512, 1024)
SPARSE = DecoderShape("sparse", 2, 256, HeadShape(4, 2, 64), 256, 1024, ExpertShape(8, 2, 256, 256))
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 8: ("Q8_0", 32, 34), 12: ("Q4_K", 256, 144),
         14: ("Q6_K", 256, 210)}  # fmt: skip
"""Number, name, weights and bytes of a block, as in ggml."""


class Reader:
    """An independent reader of the format: ggml/docs/gguf.md."""

    def __init__(self, path: Path) -> None:
        self.data, self.at = path.read_bytes(), 0
        magic, version, tensors, facts = self.take("<4sIQQ")
        assert (magic, version) == (b"GGUF", 3)
        self.facts = dict(self.fact() for _ in range(facts))
        self.tensors = dict(self.tensor() for _ in range(tensors))
        self.start = -(-self.at // 32) * 32

    def take(self, code: str) -> tuple:
        values = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return values

    def text(self) -> str:
        (length,) = self.take("<Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def fact(self) -> tuple[str, object]:
        key = self.text()
        (kind,) = self.take("<I")
        return key, self.text() if kind == 8 else self.take({4: "<I", 6: "<f"}[kind])[0]

    def tensor(self) -> tuple[str, tuple]:
        name = self.text()
        (count,) = self.take("<I")
        dims = self.take(f"<{count}Q")
        return name, (dims, *self.take("<IQ"))


@pytest.mark.parametrize("key", ["f16", "q8_0", "q6_k", "q4_0", "q4_k_m"])
@pytest.mark.parametrize("shape", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_a_model_file_holds_every_tensor_where_it_says(shape: DecoderShape, key: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    size = random_gguf(shape, key, path)
    found = Reader(path)
    assert found.facts["llama.block_count"] == shape.layers
    assert found.facts.get("llama.expert_used_count") == (2 if shape is SPARSE else None)
    end = 0
    for dims, kind, offset in found.tensors.values():
        _, weights, stored = TYPES[kind]
        assert dims[0] % weights == 0
        assert offset == end
        end = offset + -(-math.prod(dims) // weights * stored // 32) * 32
    assert found.start + end == size
    matrices = sum(math.prod(dims) for dims, *_ in found.tensors.values() if len(dims) > 1)
    assert matrices == shape.linear_weights + shape.expert_weights


def test_types_are_those_that_llama_quantize_chooses(tmp_path: Path) -> None:
    """Read from files that llama-quantize (0c1e570) made of the same shapes."""
    random_gguf(DENSE, "q4_k_m", tmp_path / "m.gguf")
    types = {name: TYPES[kind][0] for name, (_, kind, _) in Reader(tmp_path / "m.gguf").tensors.items()}
    wide = [i for i in range(16) if types[f"blk.{i}.ffn_down.weight"] == "Q6_K"]
    assert wide == [0, 1, 4, 7, 10, 13, 14, 15]
    assert wide == [i for i in range(16) if more_bits(i, 16)]
    assert types["token_embd.weight"] == "Q6_K"
    assert types["blk.4.attn_v.weight"] == "Q6_K"
    assert types["blk.4.attn_q.weight"] == types["blk.2.ffn_down.weight"] == "Q4_K"
    assert types["blk.0.attn_norm.weight"] == "F32"


def test_rows_that_no_super_block_fits_fall_back_to_eight_bits(tmp_path: Path) -> None:
    """As llama-quantize does; llama.cpp refuses a file with a broken super-block."""
    random_gguf(DecoderShape("odd", 1, 896, HeadShape(14, 2, 64), 512, 64), "q4_0", tmp_path / "m.gguf")
    types = {name: TYPES[kind][0] for name, (_, kind, _) in Reader(tmp_path / "m.gguf").tensors.items()}
    assert types["token_embd.weight"] == "Q8_0"
    assert types["blk.0.ffn_up.weight"] == "Q4_0"


def test_weights_have_the_size_that_keeps_activations_finite(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    random_gguf(DENSE, "q8_0", path)
    found = Reader(path)
    dims, _, offset = found.tensors["blk.0.ffn_up.weight"]
    stored = np.frombuffer(found.data, np.uint8, math.prod(dims) // 32 * 34, found.start + offset).reshape(-1, 34)
    scales = stored[:, :2].copy().view("<f2").astype(np.float64)
    weights = scales * stored[:, 2:].copy().view(np.int8)
    assert weights.std() == pytest.approx(0.02, rel=0.05)
    assert abs(weights.mean()) < 1e-3


def test_a_file_beyond_the_disk_is_refused(tmp_path: Path) -> None:
    huge = DecoderShape("huge", 10_000, 16384, HeadShape(128, 8, 128), 53248, 128_256)
    with pytest.raises(EnvelopeError, match="GB free; a model file needs"):
        random_gguf(huge, "f16", tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[]", '[{"x": 1}]', "llama: error"])
def test_llama_bench_without_results_is_an_error(text: str) -> None:
    with pytest.raises(EnvelopeError, match="llama-bench gave"):
        parse_llama_bench(text, "llama-bench")


TEST = BenchTest(prompts=(128,), depths=(0,), prompt_repeats=1, decode_repeats=1)


def test_a_missing_llama_bench_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--llama-bench.*no such file(.|\n)*--gguf"):
        LlamaBench(tmp_path / "absent", 1).records(tmp_path / "none.gguf", TEST)


def program(folder: Path, script: str) -> LlamaBench:
    path = folder / "llama-bench"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return LlamaBench(path, 2, wait_s=0.0)


def test_a_failing_llama_bench_says_why(tmp_path: Path) -> None:
    gguf = tmp_path / "m.gguf"
    gguf.write_text("")
    with pytest.raises(EnvelopeError, match="status 1: cannot load model"):
        program(tmp_path, "echo 'cannot load model' >&2; exit 1").records(gguf, TEST)


def test_rates_learned_from_small_files_give_back_their_times(tmp_path: Path) -> None:
    """A stand-in program answers as a llama.cpp of 12 GB/s and 80 GFLOP/s would, whatever the file."""
    answers = {
        "decode": [{"n_prompt": 0, "n_gen": 8, "n_depth": d, "avg_ts": ts, "samples_ts": [ts * 0.9, ts, ts * 1.05]}
                   for d, ts in ((0, 80.0), (2048, 70.0))],
        "prefill": [{"n_prompt": n, "n_gen": 0, "avg_ts": ts, "samples_ts": [ts * 0.9, ts, ts * 1.05]}
                    for n, ts in ((8, 213.0), (128, 250.0), (2048, 210.0))],
    }  # fmt: skip
    for name, records in answers.items():
        (tmp_path / name).write_text(json.dumps(records))
    bench = program(tmp_path, f'case "$*" in *"-p 0 "*) cat {tmp_path}/decode;; *) cat {tmp_path}/prefill;; esac')
    machine = load(HardwareProfile, "hardware_profiles", "amd-ryzen-5600x-32gb", file="test", path="")
    learned = with_llama_rates(machine, bench, lambda _share, _what: None)
    own = [c for c in learned.efficiency if c.engine == "llama.cpp"]
    assert {(c.op, c.number_format) for c in own} >= {("gemm", "q4_k_m"), ("gemm", "q6_k"), ("moe", "q4_0")}
    assert all(c.evidence == "measured" and 0 < c.constants["eff_c"] <= 1 for c in own)
    dense = DecoderShape("dense-probe", 4, 2048, HeadShape(32, 8, 64), 5632, 2048)
    for key in ("f16", "q8_0", "q4_k_m"):
        replica = resolve(model=model_record(dense), hardware=learned, engine="llama.cpp", weights=key, kv="f16")
        assert decode_s(replica, 1, 4.0) == pytest.approx(1 / 80, rel=0.02)
        assert prefill_s(replica, 128, 0) == pytest.approx(128 / 250, rel=0.02)
        # A small batch, whose weights are read while it multiplies in part only.
        assert prefill_s(replica, 8, 0) == pytest.approx(8 / 213, rel=0.02)
    # What was learned on four layers holds for a model of other sizes.
    catalog = resolve(model=model_record(LLAMA_1B), hardware=machine, engine="llama.cpp", weights="q4_0", kv="f16")
    ours = resolve(model=model_record(LLAMA_1B), hardware=learned, engine="llama.cpp", weights="q4_0", kv="f16")
    assert decode_s(ours, 1, 4.0) != pytest.approx(decode_s(catalog, 1, 4.0), rel=0.05)
