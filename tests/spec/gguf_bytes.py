"""Writes the header of a GGUF file by hand, after the specification (ggml, docs/gguf.md, version 3)."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

F32, F16, Q4_K = 0, 1, 12


def text(value: str, order: str = "<") -> bytes:
    raw = value.encode()
    return struct.pack(order + "Q", len(raw)) + raw


def value(item: Any, order: str = "<") -> bytes:
    if isinstance(item, bool):
        return struct.pack(order + "I?", 7, item)
    if isinstance(item, int):
        return struct.pack(order + "II", 4, item)
    if isinstance(item, float):
        return struct.pack(order + "If", 6, item)
    if isinstance(item, str):
        return struct.pack(order + "I", 8) + text(item, order)
    inner = value(item[0], order)[:4]
    return (
        struct.pack(order + "I", 9)
        + inner
        + struct.pack(order + "Q", len(item))
        + b"".join(value(each, order)[4:] for each in item)
    )


def header(
    metadata: Mapping[str, Any] | Sequence[tuple[str, Any]],
    tensors: Sequence[tuple[str, tuple[int, ...], int]],
    *,
    order: str = "<",
) -> bytes:
    pairs = list(metadata.items()) if isinstance(metadata, Mapping) else list(metadata)
    out = b"GGUF" + struct.pack(order + "IQQ", 3, len(tensors), len(pairs))
    for name, item in pairs:
        out += text(name, order) + value(item, order)
    for name, dims, kind in tensors:
        out += text(name, order) + struct.pack(order + "I", len(dims))
        out += b"".join(struct.pack(order + "Q", d) for d in dims) + struct.pack(order + "IQ", kind, 0)
    return out


LLAMA: dict[str, Any] = {
    "general.architecture": "llama", "general.name": "Toy Llama", "general.license": "apache-2.0",
    "llama.block_count": 2, "llama.context_length": 8192, "llama.embedding_length": 512,
    "llama.feed_forward_length": 1536, "llama.attention.head_count": 8, "llama.attention.head_count_kv": 2,
    "llama.rope.freq_base": 5e5, "tokenizer.ggml.tokens": ["a", "b", "c"], "tokenizer.ggml.add_bos_token": True,
}  # fmt: skip


def llama_tensors(kind: int = Q4_K, *, tied: bool = False) -> list[tuple[str, tuple[int, ...], int]]:
    found: list[tuple[str, tuple[int, ...], int]] = [
        ("token_embd.weight", (512, 1024), kind),
        ("output_norm.weight", (512,), F32),
    ]
    if not tied:
        found.append(("output.weight", (512, 1024), kind))
    for i in range(2):
        found += [
            (f"blk.{i}.attn_norm.weight", (512,), F32), (f"blk.{i}.ffn_norm.weight", (512,), F32),
            (f"blk.{i}.attn_q.weight", (512, 512), kind), (f"blk.{i}.attn_k.weight", (512, 128), kind),
            (f"blk.{i}.attn_v.weight", (512, 128), kind), (f"blk.{i}.attn_output.weight", (512, 512), kind),
            (f"blk.{i}.ffn_gate.weight", (512, 1536), kind), (f"blk.{i}.ffn_up.weight", (512, 1536), kind),
            (f"blk.{i}.ffn_down.weight", (1536, 512), kind),
        ]  # fmt: skip
    return found
