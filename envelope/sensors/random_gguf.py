"""Random-weight model files for llama.cpp: a decoder's true architecture, every weight made up.

Speed does not depend on what the weights hold, so such a file runs as fast as the trained model in the same format.
Without ``words`` the file has no vocabulary text; ``llama-bench`` draws its tokens by number. Layout of the file:
ggml/docs/gguf.md, of the blocks: ggml/src/ggml-common.h, both in github.com/ggml-org/llama.cpp.
"""

import math
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from envelope.errors import EnvelopeError
from envelope.sensors.decoder_shape import DecoderShape
from envelope.sensors.onnx_graph import Array

_ALIGNMENT: Final = 32
_VERSION: Final = 3
_CONTEXT_TOKENS: Final = 8192
_RANDOM_BYTES: Final = 8 << 20
"""Random content that is repeated through a tensor."""
_Fact = str | int | float | list[str] | list[int] | list[float]
_WEIGHT_SIZE: Final = 0.02
"""Standard deviation of the weights: activations neither vanish nor overflow."""


@dataclass(frozen=True, slots=True)
class Block:
    """How a tensor type stores its weights: ``scales`` are (offset, value) of its half-precision numbers."""

    number: int
    """Of the type in ggml."""
    weights: int
    stored_bytes: int
    scales: tuple[tuple[int, float], ...] = ()


F32 = Block(0, 1, 4)
F16 = Block(1, 1, 2)
Q4_0 = Block(2, 32, 18, ((0, _WEIGHT_SIZE / 4.6),))
Q8_0 = Block(8, 32, 34, ((0, _WEIGHT_SIZE / 74.0),))
# Scale and minimum of a super-block of 256: codes have mean 7.5 and sub-scales mean 31.5, which the minimum takes off.
Q4_K = Block(12, 256, 144, ((0, _WEIGHT_SIZE / 145.0), (2, 7.5 * _WEIGHT_SIZE / 145.0)))
Q6_K = Block(14, 256, 210, ((208, _WEIGHT_SIZE / 1370.0),))


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dims: tuple[int, ...]
    """Columns first, as ggml counts."""
    block: Block

    @property
    def stored_bytes(self) -> int:
        return math.prod(self.dims) // self.block.weights * self.block.stored_bytes


_BLOCKS: Final = {"f16": F16, "q8_0": Q8_0, "q6_k": Q6_K, "q4_0": Q4_0, "q4_k_m": Q4_K}
"""By ids of number formats of this project."""
_HEADS: Final = {"f16": F16, "q8_0": Q8_0, "q6_k": Q6_K, "q4_0": Q6_K, "q4_k_m": Q6_K}
"""Type of an embedding that serves as head too."""


def random_gguf(
    shape: DecoderShape,
    number_format: str,
    path: Path,
    *,
    words: Sequence[str] = (),
    context_tokens: int = _CONTEXT_TOKENS,
) -> int:
    """Write a model file of this architecture and return its size in bytes.

    ``words`` are the texts of all tokens (a server turns answers into text), the first three unknown, start and end.
    Raises ``EnvelopeError`` if the disk has no room for it.
    """
    tensors = list(_tensors(shape, number_format))
    size = sum(t.stored_bytes for t in tensors)
    free = shutil.disk_usage(path.parent).free
    if size > 0.9 * free:
        raise EnvelopeError(f"{path.parent} has {free / 1e9:.1f} GB free; a model file needs {size / 1e9:.1f} GB")
    with path.open("wb") as file:
        file.write(_header(_facts(shape, words, context_tokens), tensors))
        random = np.random.default_rng(0)
        for tensor in tensors:
            _write_tensor(file, tensor, random)
    return path.stat().st_size


def _tensors(shape: DecoderShape, key: str) -> Iterator[_Tensor]:
    """Yield the tensors in the types that ``llama-quantize`` would choose."""
    block = _BLOCKS[key]
    # Rows that no whole super-blocks fit into fall back to Q8_0 (``tensor_type_fallback`` in llama-quant.cpp).
    head = _HEADS[key] if shape.hidden % _HEADS[key].weights == 0 else Q8_0
    yield _Tensor("token_embd.weight", (shape.hidden, shape.vocab), head)
    yield _Tensor("output_norm.weight", (shape.hidden,), F32)
    names = ("attn_q", "attn_k", "attn_v", "attn_output")
    for layer in range(shape.layers):
        wide = Q6_K if key == "q4_k_m" and more_bits(layer, shape.layers) else block
        for name in ("attn_norm", "ffn_norm"):
            yield _Tensor(f"blk.{layer}.{name}.weight", (shape.hidden,), F32)
        for name, dims in zip(names, shape.attention_linears, strict=True):
            yield _Tensor(f"blk.{layer}.{name}.weight", dims, wide if name == "attn_v" else block)
        yield from _feed_forward(shape, layer, block, wide)


def _feed_forward(shape: DecoderShape, layer: int, block: Block, wide: Block) -> Iterator[_Tensor]:
    experts = shape.experts
    width, count, suffix = (shape.ffn, (), "") if experts is None else (experts.ffn, (experts.experts,), "_exps")
    if experts is not None:
        yield _Tensor(f"blk.{layer}.ffn_gate_inp.weight", (shape.hidden, experts.experts), F32)
    for name, dims, kind in (
        ("gate", (shape.hidden, width), block), ("up", (shape.hidden, width), block),
        ("down", (width, shape.hidden), wide),
    ):  # fmt: skip
        yield _Tensor(f"blk.{layer}.ffn_{name}{suffix}.weight", (*dims, *count), kind)


def more_bits(layer: int, layers: int) -> bool:
    """Return whether Q4_K_M keeps values and feed-forward outputs of this layer in Q6_K.

    The first and last eighth and every third layer between (``use_more_bits`` in llama.cpp's src/llama-quant.cpp).
    """
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _header(facts: dict[str, _Fact], tensors: list[_Tensor]) -> bytes:
    parts = [struct.pack("<4sIQQ", b"GGUF", _VERSION, len(tensors), len(facts))]
    parts += [_fact(key, value) for key, value in facts.items()]
    offset = 0
    for t in tensors:
        parts.append(_text(t.name) + struct.pack(f"<I{len(t.dims)}Q", len(t.dims), *t.dims))
        parts.append(struct.pack("<IQ", t.block.number, offset))
        offset += _padded(t.stored_bytes)
    head = b"".join(parts)
    return head + bytes(_padded(len(head)) - len(head))


def _facts(shape: DecoderShape, words: Sequence[str], context_tokens: int) -> dict[str, _Fact]:
    heads, experts = shape.heads, shape.experts
    facts: dict[str, _Fact] = {
        "general.architecture": "llama",
        "general.name": f"{shape.name}, random weights",
        "llama.vocab_size": shape.vocab,
        "llama.context_length": context_tokens,
        "llama.embedding_length": shape.hidden,
        "llama.block_count": shape.layers,
        "llama.feed_forward_length": experts.ffn if experts else shape.ffn,
        "llama.attention.head_count": heads.heads,
        "llama.attention.head_count_kv": heads.kv_heads,
        "llama.attention.key_length": heads.head_dim,
        "llama.attention.value_length": heads.head_dim,
        "llama.rope.dimension_count": heads.head_dim,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        **(_vocabulary(words) if words else {"tokenizer.ggml.model": "no_vocab"}),
    }
    if experts is not None:
        facts |= {"llama.expert_count": experts.experts, "llama.expert_used_count": experts.top_k}
    return facts


def _vocabulary(words: Sequence[str]) -> dict[str, _Fact]:
    """Return a vocabulary in SentencePiece's manner; token types: 2 unknown, 3 control, 1 a normal word."""
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [word if at < 3 else f"\u2581{word}" for at, word in enumerate(words)],
        "tokenizer.ggml.scores": [-float(at) for at in range(len(words))],
        "tokenizer.ggml.token_type": [2, 3, 3, *(1 for _ in words[3:])],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
    }


def _fact(key: str, value: _Fact) -> bytes:
    """Return one entry of the header; type 9 is a list, of entries of one type."""
    if isinstance(value, list):
        kind, _ = _value(value[0])
        entries = b"".join(_value(v)[1] for v in value)
        # Types of tokens are read as signed numbers (5), which the same bytes are.
        return _text(key) + struct.pack("<IIQ", 9, 5 if kind == 4 else kind, len(value)) + entries
    kind, content = _value(value)
    return _text(key) + struct.pack("<I", kind) + content


def _value(value: str | int | float) -> tuple[int, bytes]:
    """Return a value's type and bytes: 8 is text, 7 yes or no, 4 an unsigned and 6 a floating number of 32 bits."""
    match value:
        case str():
            return 8, _text(value)
        case bool():
            return 7, struct.pack("<?", value)
        case int():
            return 4, struct.pack("<I", value)
        case _:
            return 6, struct.pack("<f", value)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _write_tensor(file: IO[bytes], tensor: _Tensor, random: np.random.Generator) -> None:
    size = tensor.stored_bytes
    content = memoryview(_content(tensor, random).tobytes())
    for start in range(0, size, len(content)):
        file.write(content[: min(len(content), size - start)])
    file.write(bytes(_padded(size) - size))


def _content(tensor: _Tensor, random: np.random.Generator) -> Array:
    """Return whole blocks of random weights, at most as many as the tensor has."""
    block = tensor.block
    count = min(tensor.stored_bytes, _RANDOM_BYTES) // block.stored_bytes
    if block is F32:
        # Norms are 1; the router is a matrix.
        narrow = len(tensor.dims) == 1
        return np.ones(count, "<f4") if narrow else (_WEIGHT_SIZE * random.standard_normal(count)).astype("<f4")
    if block is F16:
        return (_WEIGHT_SIZE * random.standard_normal(count, dtype=np.float32)).astype("<f2")
    codes = np.frombuffer(random.bytes(count * block.stored_bytes), np.uint8).reshape(count, -1).copy()
    # Either sign, so that a mean of the codes does not pile up through the layers.
    sign = random.choice(np.array([-1.0, 1.0]), count)
    for offset, scale in block.scales:
        codes[:, offset : offset + 2] = (sign * scale).astype("<f2")[:, None].view(np.uint8)
    return codes
