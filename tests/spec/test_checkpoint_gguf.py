"""GGUF headers: written by hand and by the gguf package, whole, in shards, truncated and malicious."""

import math
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from envelope.errors import InputError
from envelope.perf.params import param_counts, weight_bytes
from envelope.provenance import Source
from envelope.spec.checkpoint.config_json import Imported, Naming
from envelope.spec.checkpoint.ggml_types import GGML_TYPES
from envelope.spec.checkpoint.gguf_header import GgufHeader, read_gguf
from envelope.spec.checkpoint.gguf_model import model_from_gguf, tensor_bytes
from envelope.spec.load import load_all
from envelope.spec.number_format import NumberFormat
from tests.spec.gguf_bytes import F16, F32, LLAMA, Q4_K, header, llama_tensors, text

SOURCE = Source(source="a test", date="2026-11-23")
FORMATS = {f.id: f for f in load_all(NumberFormat, "formats")}


def written(folder: Path, data: bytes, name: str = "toy.gguf") -> GgufHeader:
    path = folder / name
    path.write_bytes(data)
    return read_gguf(path)


def imported(found: GgufHeader, **naming: Any) -> Imported:
    return model_from_gguf(found, "toy.gguf", Naming(id="toy", **naming), source=SOURCE)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_and_bytes_are_those_of_the_tensors(tmp_path: Path, order: str, tied: bool) -> None:
    found = written(tmp_path, header(LLAMA, llama_tensors(tied=tied), order=order))
    model = imported(found)
    by_hand = sum(math.prod(dims) for _, dims, _ in llama_tensors(tied=tied))
    assert param_counts(model.model).total == model.params_in_file == by_hand
    assert model.model.tie_embeddings == tied
    assert model.model.max_context_tokens == 8192
    assert model.model.native_format == "ggml-q4_k"
    assert sum(weight_bytes(model.model, "native", FORMATS).values()) == pytest.approx(tensor_bytes(found), rel=1e-9)


def test_biases_norms_and_sinks_are_read_from_the_tensors(tmp_path: Path) -> None:
    more = [(f"blk.0.{name}", (64,), F32) for name in ("attn_q.bias", "attn_output.bias", "attn_q_norm.weight",
            "attn_k_norm.weight", "attn_sinks.weight", "post_attention_norm.weight", "post_ffw_norm.weight")]  # fmt: skip
    model = imported(written(tmp_path, header(LLAMA, [*llama_tensors(), *more]))).model
    full = model.attention["full"]
    assert (full.qkv_bias, full.o_bias, full.qk_norm, full.sinks) == (True, True, "head", True)  # type: ignore[union-attr]
    assert model.norms_per_sublayer == 2


def test_an_unknown_architecture_is_read_all_the_same_because_the_tensors_decide(tmp_path: Path) -> None:
    renamed = {k.replace("llama.", "brandnew."): v for k, v in LLAMA.items()} | {"general.architecture": "brandnew"}
    assert imported(written(tmp_path, header(renamed, llama_tensors()))).model.layers == 2


def deepseek() -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], int]]]:
    """Latent attention with a dense first layer, shared experts and a prediction layer, small."""
    metadata = {
        "general.architecture": "deepseek2", "deepseek2.block_count": 3, "deepseek2.nextn_predict_layers": 1,
        "deepseek2.context_length": 4096, "deepseek2.embedding_length": 256, "deepseek2.feed_forward_length": 768,
        "deepseek2.attention.head_count": 4, "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.q_lora_rank": 96, "deepseek2.attention.kv_lora_rank": 64,
        "deepseek2.attention.key_length": 96, "deepseek2.attention.value_length": 64,
        "deepseek2.attention.key_length_mla": 80, "deepseek2.attention.value_length_mla": 48,
        "deepseek2.rope.dimension_count": 32, "deepseek2.expert_count": 8, "deepseek2.expert_used_count": 2,
    }  # fmt: skip
    tensors: list[tuple[str, tuple[int, ...], int]] = [
        ("token_embd.weight", (256, 500), F16), ("output.weight", (256, 500), F16), ("output_norm.weight", (256,), F32),
    ]  # fmt: skip
    for i in range(2):
        tensors += [(f"blk.{i}.{name}.weight", dims, F16) for name, dims in (
            ("attn_q_a", (256, 96)), ("attn_q_b", (96, 4 * 80)), ("attn_kv_a_mqa", (256, 96)),
            ("attn_k_b", (48, 64, 4)), ("attn_v_b", (64, 48, 4)), ("attn_output", (4 * 48, 256)),
            ("attn_norm", (256,)), ("ffn_norm", (256,)), ("attn_q_a_norm", (96,)), ("attn_kv_a_norm", (64,)))]  # fmt: skip
    tensors += [
        (f"blk.0.ffn_{n}.weight", (768, 256) if n == "down" else (256, 768), F16) for n in ("gate", "up", "down")
    ]
    for n in ("gate", "up", "down"):
        tensors.append((f"blk.1.ffn_{n}_exps.weight", (128, 256, 8) if n == "down" else (256, 128, 8), F16))
        tensors.append((f"blk.1.ffn_{n}_shexp.weight", (128, 256) if n == "down" else (256, 128), F16))
    return metadata, [*tensors, ("blk.1.ffn_gate_inp.weight", (256, 8), F32), ("blk.1.exp_probs_b.bias", (8,), F32)]


def test_latent_attention_and_experts_are_read(tmp_path: Path) -> None:
    metadata, tensors = deepseek()
    found = imported(written(tmp_path, header(metadata, tensors)))
    latent = found.model.attention["latent"]
    assert (latent.qk_nope_dim, latent.qk_rope_dim, latent.v_dim) == (48, 32, 48)  # type: ignore[union-attr]
    assert [layer.ffn for b in found.model.layer_pattern for layer in b.block] == ["dense", "moe"]
    assert param_counts(found.model).total == found.params_in_file == sum(math.prod(d) for _, d, _ in tensors)


def test_the_listed_pattern_of_windows_counts(tmp_path: Path) -> None:
    windowed = LLAMA | {"llama.attention.sliding_window": 256, "llama.attention.sliding_window_pattern": [True, False]}
    model = imported(written(tmp_path, header(windowed, llama_tensors()))).model
    assert [model.attention[str(k.attention)].kind for k in model.layer_counts] == ["window", "gqa"]


def test_shards_are_read_together_and_a_missing_one_is_named(tmp_path: Path) -> None:
    tensors = llama_tensors()
    for number, part in ((1, tensors[:4]), (2, tensors[4:])):
        keys = LLAMA | {"split.count": 2} if number == 1 else {"split.count": 2, "split.no": 1}
        (tmp_path / f"toy-0000{number}-of-00002.gguf").write_bytes(header(keys, part))
    found = read_gguf(tmp_path / "toy-00001-of-00002.gguf")
    assert imported(found).params_in_file == sum(math.prod(d) for _, d, _ in tensors)
    assert read_gguf(tmp_path / "toy-00002-of-00002.gguf").metadata == found.metadata
    (tmp_path / "toy-00002-of-00002.gguf").unlink()
    with pytest.raises(InputError, match=r"toy-00002-of-00002\.gguf: shard is missing"):
        read_gguf(tmp_path / "toy-00001-of-00002.gguf")


def test_a_header_cut_off_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = header(LLAMA, llama_tensors())
    for length in range(0, len(whole), 7):
        with pytest.raises(InputError):
            written(tmp_path, whole[:length])


HUGE = 2**63 - 1
MALICIOUS = {
    "keys": b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE),
    "tensors": b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0),
    "a long name": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", HUGE),
    "a long text": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IQ", 8, HUGE),
    "a long array": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 4, HUGE),
    "an array of texts": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 8, 2**40),
    "nested arrays": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + text("a")
    + struct.pack("<I", 9)
    + struct.pack("<IQ", 9, 1) * 50,
    "an unknown type": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 99),
    "dimensions": b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("a") + struct.pack("<I", 2**31),
    "a shape": b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("a") + struct.pack("<IQQ", 2, 2**39, 2**39),
    "a version": b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    "another format": b"PK\x03\x04" + bytes(100),
    "a repeated key": header([("a", 1), ("a", 2)], []),
    "a repeated tensor": header({}, [("a", (1,), 0), ("a", (1,), 0)]),
    "no tensors": header(LLAMA, []),
    "endless layers": header(LLAMA | {"llama.block_count": 2**31}, llama_tensors()),
    "no heads": header({k: v for k, v in LLAMA.items() if "head_count" not in k}, llama_tensors()),
    "many shards": header(LLAMA | {"split.count": 2**31}, llama_tensors()),
    "recurrence unknown to the catalog": header(LLAMA, [*llama_tensors(), ("blk.0.time_mix_w1.weight", (4,), F32)]),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_malicious_header_is_a_clear_error_and_takes_no_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.gguf"
    path.write_bytes(MALICIOUS[name] + bytes(64))
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        imported(read_gguf(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "gguf" in str(caught.value)
    assert peak < 20e6


def test_sizes_of_types_are_those_of_the_gguf_package() -> None:
    constants = pytest.importorskip("gguf.constants", reason="the gguf package is not installed")
    theirs = {int(kind): tuple(sizes) for kind, sizes in constants.GGML_QUANT_SIZES.items()}
    assert {k: (t.block, t.block_bytes) for k, t in GGML_TYPES.items()} == {
        k: v for k, v in theirs.items() if k in GGML_TYPES
    }


def test_a_file_of_the_gguf_package_is_read(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")
    np = pytest.importorskip("numpy")
    writer = gguf.GGUFWriter(tmp_path / "package.gguf", "llama")
    writer.add_name("By the package")
    writer.add_context_length(8192)
    writer.add_embedding_length(512)
    writer.add_block_count(2)
    writer.add_feed_forward_length(1536)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_token_list([f"t{i}" for i in range(5000)])
    for name, dims, _ in llama_tensors():
        writer.add_tensor(name, np.zeros(dims[::-1], np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf(tmp_path / "package.gguf")
    assert imported(found).params_in_file == sum(math.prod(d) for _, d, _ in llama_tensors())
    assert imported(found).model.native_format == "f16"


def test_a_long_vocabulary_is_passed_over(tmp_path: Path) -> None:
    many = LLAMA | {"tokenizer.ggml.tokens": [f"token {i}" for i in range(5000)], "tokenizer.ggml.scores": [0.5] * 5000}
    found = written(tmp_path, header(many, llama_tensors(Q4_K)))
    assert found.metadata["tokenizer.ggml.tokens"] is None
    assert len(found.tensors) == len(llama_tensors())
