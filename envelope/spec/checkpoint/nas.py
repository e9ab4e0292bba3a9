"""Layers of individual shapes, as a neural architecture search leaves them (Nemotron-NAS, DeciLM)."""

from dataclasses import dataclass
from typing import Any

from envelope.spec.checkpoint.fields import Fields

WIDTH_STEP = 256
"""Widths of these feed-forward networks are multiples of it."""


@dataclass(frozen=True, slots=True)
class NasBlock:
    """One layer: 0 stands for a half that it does without."""

    kv_heads: int
    ffn_width: int


def nas_blocks(fields: Fields, layers: int) -> list[NasBlock] | None:
    """Return the shape of each layer from ``block_configs``, or ``None`` for a file without; mistakes are collected.

    A layer names the query heads that share a key head, and a multiple of the hidden size: its width is
    2/3 · multiple · hidden, rounded up to a multiple of 256 (as DeciLM's configuration code has it).
    """
    blocks = fields.sequence("block_configs", length=layers)
    if not blocks:
        return None
    heads, hidden = fields.required("num_attention_heads"), fields.required("hidden_size")
    found = []
    for index, block in enumerate(blocks[:layers]):
        where = f"block_configs[{index}]"
        kv_heads = _kv_heads(fields, _half(block, "attention"), heads, f"{where}.attention")
        found.append(NasBlock(kv_heads, _width(fields, _half(block, "ffn"), hidden, f"{where}.ffn")))
    return found


def _half(block: object, name: str) -> dict[str, Any]:
    half = block.get(name) if isinstance(block, dict) else None
    return half if isinstance(half, dict) else {}


def _kv_heads(fields: Fields, attention: dict[str, Any], heads: int, where: str) -> int:
    if attention.get("no_op"):
        return 0
    group = attention.get("n_heads_in_group")
    if attention.get("replace_with_linear") or not isinstance(group, int) or group < 1 or heads % group:
        fields.wrong(where, None, f"must name n_heads_in_group, a divisor of the {heads} heads, or no_op")
        return heads
    return heads // group


def _width(fields: Fields, ffn: dict[str, Any], hidden: int, where: str) -> int:
    if ffn.get("no_op"):
        return 0
    given = ffn.get("intermediate_size")
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given < 2**31:
        return given
    multiple = ffn.get("ffn_mult")
    usable = isinstance(multiple, int | float) and not isinstance(multiple, bool) and 0 < multiple < 1000
    if ffn.get("replace_with_linear") or not usable:
        fields.wrong(where, None, "must name ffn_mult, a number above 0, or intermediate_size, or no_op")
        return hidden
    width = int(2 * float(multiple or 0) * hidden / 3)
    return -(-width // WIDTH_STEP) * WIDTH_STEP
