"""Bits of the number formats against block structures, and sizes against published files."""

import json
from pathlib import Path

import pytest

from envelope.perf.work import weight_bytes
from envelope.spec.load import ids, load, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import PARTS, NumberFormat
from envelope.units import GIB

FORMATS = {f.id: f for f in load_all(NumberFormat, "formats")}


@pytest.mark.parametrize(
    ("ident", "block_bytes", "block_weights"),
    [
        # ggml/src/ggml-common.h: sizeof of the block structures
        ("q8_0", 34, 32), ("q4_0", 18, 32), ("q4_1", 20, 32), ("q5_0", 22, 32), ("q5_1", 24, 32), ("q6_k", 210, 256),
        ("ggml-q4_k", 144, 256), ("ggml-q5_k", 176, 256), ("ggml-q2_k", 84, 256), ("ggml-q3_k", 110, 256),
        ("q3_k_s", 110, 256), ("q5_k_s", 176, 256),
        # OCP MX v1.0: 32 elements share an 8-bit exponent; NVFP4: 16 share an fp8 scale; MLX: 64 share two fp16
        ("mxfp4", 17, 32), ("mxfp8", 33, 32), ("nvfp4", 9, 16), ("mlx-4bit", 36, 64), ("onnx-int4", 18, 32),
    ],
)  # fmt: skip
def test_bits_include_scales(ident: str, block_bytes: int, block_weights: int):
    assert FORMATS[ident].bits_per_weight == pytest.approx(8 * block_bytes / block_weights, rel=1e-4)


FILES_GIB = [
    # llama.cpp tools/quantize/README.md, table of Llama-3.1-8B
    ("llama-3.1-8b", "f16", 14.96), ("llama-3.1-8b", "q8_0", 7.95), ("llama-3.1-8b", "q6_k", 6.14),
    ("llama-3.1-8b", "q5_k_m", 5.33), ("llama-3.1-8b", "q4_k_m", 4.58), ("llama-3.1-8b", "q3_k_m", 3.74),
    ("llama-3.1-8b", "q2_k", 2.95), ("llama-3.1-8b", "iq3_m", 3.52), ("llama-3.1-8b", "iq2_xxs", 2.23),
    # llama-bench listings of other files: the mixes were not derived from these
    ("llama-3.1-70b", "q4_k_m", 39.59), ("llama-2-7b", "q4_0", 3.56), ("llama-2-7b", "q4_k_s", 3.59),
    ("llama-2-7b", "q5_k_s", 4.33), ("llama-2-7b", "q6_k", 5.15), ("llama-2-7b", "q8_0", 6.67),
    ("llama-2-7b", "q3_k_s", 2.75), ("llama-2-7b", "iq3_xxs", 2.41), ("llama-2-7b", "iq2_xs", 1.89),
    ("llama-3.1-8b", "iq4_nl", 4.35), ("llama-3.1-8b", "q5_1", 5.64), ("llama-3.1-8b", "iq4_xs", 4.13),
    ("gpt-oss-20b", "mxfp4_moe", 11.27), ("gpt-oss-120b", "mxfp4_moe", 59.02),
    ("gemma-4-31b", "bf16", 57.18), ("gemma-4-26b-a4b", "bf16", 47.02), ("ministral-3-14b", "bf16", 25.16),
]  # fmt: skip


@pytest.mark.parametrize(("model", "ident", "size_gib"), FILES_GIB)
def test_weights_have_the_size_of_published_files(model: str, ident: str, size_gib: float):
    record = load(Model, "models", model, file="a test", path="model")
    found = sum(weight_bytes(record, FORMATS[ident], FORMATS).values()) / GIB
    assert found == pytest.approx(size_gib, rel=0.011)


def test_wide_parts_exist_and_are_never_narrower():
    for record in FORMATS.values():
        for part, wide in {**record.wide_parts, **record.moe_wide_parts}.items():
            assert part in PARTS
            assert FORMATS[wide].bits_per_weight >= record.bits_per_weight or record.id.startswith(("iq", "q", "ud-"))


@pytest.mark.parametrize("ident", ["bf16", "f16", "fp8", "int8", "q8_0", "q4_0", "fp4-kv", "fp8-ds-mla", "fp8-fp4-ds"])
def test_kv_formats_are_offered(ident: str):
    assert FORMATS[ident].kv


def test_no_name_means_two_formats():
    owner: dict[str, str] = {}
    for record in FORMATS.values():
        for name in (record.id, record.name, *record.aliases):
            key = name.lower().replace("_", "-").replace(" ", "-")
            assert owner.setdefault(key, record.id) == record.id, name


def test_formats_of_published_measurements_are_known():
    file = Path(__file__).parents[3] / "shared" / "validation" / "published.jsonl"
    if not file.exists():
        pytest.skip("measured results are not beside this checkout")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    names = {r[k] for r in rows for k in ("quant_format", "weights_dtype", "kv_dtype") if r[k]}
    for name in names:
        load(NumberFormat, "formats", name, file=str(file), path="format")
    assert ids("formats")
