"""Random numbers of a request that depend on nothing but its own seed and the number of the draw."""

from envelope.serving.kernel.layout import F_SIZE, F_UNIFORM
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Floats


@kernel
def uniform(rx: Floats, i: int, n: int) -> float:
    """Return the ``n``-th number in [0, 1) of request ``i``; all products stay below 2⁶³ in both modes."""
    v = int(rx[i * F_SIZE + F_UNIFORM] * 2147483648.0)
    v = (v * 2654435761 + n % 2147483648 * 1597334677 + 12345) % 4294967296
    v = (v ^ (v >> 15)) * 739982445 % 4294967296
    v = (v ^ (v >> 12)) * 695872825 % 4294967296
    v = v ^ (v >> 15)
    return v / 4294967296.0
