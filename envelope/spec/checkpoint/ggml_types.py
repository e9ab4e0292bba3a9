"""Types of ggml tensors: weights per block, bytes per block, and the catalog's format of the same name.

Sizes: ``GGML_QUANT_SIZES`` of gguf-py 0.19 (github.com/ggml-org/llama.cpp).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from envelope.spec.checkpoint.gguf_header import Tensor
from envelope.spec.load import load_all
from envelope.spec.number_format import NumberFormat


@dataclass(frozen=True, slots=True)
class GgmlType:
    """One way in which ggml stores a tensor."""

    block: int
    """Weights of one block."""
    block_bytes: int
    format: str | None
    """Format of the catalog that stores a weight exactly so, if there is one."""


GGML_TYPES = {
    0: GgmlType(1, 4, "f32"), 1: GgmlType(1, 2, "f16"), 2: GgmlType(32, 18, "q4_0"), 3: GgmlType(32, 20, "q4_1"),
    6: GgmlType(32, 22, "q5_0"), 7: GgmlType(32, 24, "q5_1"), 8: GgmlType(32, 34, "q8_0"),
    9: GgmlType(32, 40, None), 10: GgmlType(256, 84, "ggml-q2_k"), 11: GgmlType(256, 110, "ggml-q3_k"),
    12: GgmlType(256, 144, "ggml-q4_k"), 13: GgmlType(256, 176, "ggml-q5_k"), 14: GgmlType(256, 210, "q6_k"),
    15: GgmlType(256, 292, None), 16: GgmlType(256, 66, None), 17: GgmlType(256, 74, None),
    18: GgmlType(256, 98, None), 19: GgmlType(256, 50, None), 20: GgmlType(32, 18, "iq4_nl"),
    21: GgmlType(256, 110, "ggml-iq3_s"), 22: GgmlType(256, 82, None), 23: GgmlType(256, 136, "ggml-iq4_xs"),
    24: GgmlType(1, 1, None), 25: GgmlType(1, 2, None), 26: GgmlType(1, 4, None), 27: GgmlType(1, 8, None),
    28: GgmlType(1, 8, None), 29: GgmlType(256, 56, None), 30: GgmlType(1, 2, "bf16"),
    34: GgmlType(256, 54, None), 35: GgmlType(256, 66, None), 39: GgmlType(32, 17, "mxfp4"),
    40: GgmlType(64, 36, "nvfp4"), 41: GgmlType(128, 18, None),
}  # fmt: skip
"""Type id → sizes; ids that are missing were withdrawn by ggml."""


def stored_bytes(tensor: Tensor) -> float | None:
    """Return the bytes of a tensor's data, or ``None`` for an unknown type."""
    kind = GGML_TYPES.get(tensor.type_id)
    return None if kind is None else tensor.elements / kind.block * kind.block_bytes


def format_of(tensors: Iterable[Tensor]) -> tuple[str, bool] | None:
    """Return the catalog's format nearest to how ``tensors`` are stored together, and whether it is exact.

    Tensors of one type have the format of that type where the catalog holds it; a mixture has the GGUF format with
    the nearest number of bits per weight. ``None`` if a type is unknown or there are no tensors.
    """
    found = list(tensors)
    sizes = [stored_bytes(t) for t in found]
    total = sum(t.elements for t in found)
    if not total or any(size is None for size in sizes):
        return None
    named = {GGML_TYPES[t.type_id].format for t in found}
    if len(named) == 1 and (only := next(iter(named))) is not None:
        return only, True
    bits = 8 * sum(size for size in sizes if size is not None) / total
    formats = [f for f in load_all(NumberFormat, "formats") if f.family == "gguf" or f.id in ("f16", "bf16", "f32")]
    nearest = min(formats, key=lambda f: abs(f.bits_per_weight - bits))
    return nearest.id, abs(nearest.bits_per_weight - bits) < 0.01 * bits
