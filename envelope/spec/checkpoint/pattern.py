"""Layers in order, written as blocks that repeat."""

from collections.abc import Sequence

from envelope.spec.model import Blocks, Layer

LONGEST_BLOCK = 24
"""Longest repeating block that is looked for."""


def blocks_of(layers: Sequence[Layer]) -> tuple[Blocks, ...]:
    """Return the shortest blocks that, repeated, give ``layers`` in order.

    At each place the block that covers most layers is taken, the shortest of equals; layers without any
    repetition come out as blocks of one layer.

    >>> window, full = Layer(attention="window", ffn="dense"), Layer(attention="full", ffn="dense")
    >>> [(b.repeat, len(b.block)) for b in blocks_of([full] + [window, window, full] * 4)]
    [(1, 1), (4, 3)]
    """
    found: list[Blocks] = []
    start = 0
    while start < len(layers):
        length, repeat = _longest(layers, start)
        found.append(Blocks(repeat=repeat, block=tuple(layers[start : start + length])))
        start += length * repeat
    return tuple(found)


def _longest(layers: Sequence[Layer], start: int) -> tuple[int, int]:
    """Return length and number of repetitions of the block that covers most layers from ``start`` on."""
    best = (1, _repeats(layers, start, 1))
    for length in range(2, min(LONGEST_BLOCK, (len(layers) - start) // 2) + 1):
        repeat = _repeats(layers, start, length)
        if repeat > 1 and length * repeat > best[0] * best[1]:
            best = (length, repeat)
    return best


def _repeats(layers: Sequence[Layer], start: int, length: int) -> int:
    block = layers[start : start + length]
    end = start + length
    while layers[end : end + length] == block:
        end += length
    return (end - start) // length
