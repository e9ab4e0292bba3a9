"""Adapters (LoRA) on a shared base model: which are on the device, and what loading another one takes."""

from envelope.serving.kernel.layout import (
    A_RUNNING,
    A_SIZE,
    A_USED,
    H_CLASSES,
    Q_ADAPTER,
    Q_SIZE,
    R_ADAPTER,
    R_ADAPTER_TURN,
    R_ADAPTERS,
    R_ADAPTERS_ON,
    R_LOADS,
    X_ADAPTER_EACH_S,
    X_ADAPTER_S,
    X_LOAD_S,
    X_LOADING,
)
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def adapter_entry(st: Ints, b: int, adapter: int) -> int:
    """Return the replica's entry of an adapter."""
    return st[b + R_ADAPTER] + adapter * A_SIZE


@kernel
def begin_use(st: Ints, sx: Floats, rq: Rows, b: int, x: int, i: int) -> None:
    """Count a running sequence of request ``i``'s adapter; load it first if it is not on the device."""
    adapter = rq[i * Q_SIZE + Q_ADAPTER]
    if adapter < 0:
        return
    e = adapter_entry(st, b, adapter)
    if st[e + A_USED] < 0:
        make_place(st, b)
        sx[x + X_LOADING] += sx[x + X_LOAD_S]
        st[b + R_LOADS] += 1
        st[e + A_USED] = 0
    if st[e + A_RUNNING] == 0:
        st[b + R_ADAPTERS_ON] += 1
    st[e + A_RUNNING] += 1


@kernel
def make_place(st: Ints, b: int) -> None:
    """Drop the longest unused adapter if all places on the device are taken."""
    held = 0
    oldest = -1
    for a in range(st[H_CLASSES]):
        e = adapter_entry(st, b, a)
        if st[e + A_USED] >= 0:
            held += 1
            if st[e + A_RUNNING] == 0 and (oldest < 0 or st[e + A_USED] < st[oldest + A_USED]):
                oldest = e
    if oldest >= 0 and st[b + R_ADAPTERS] > 0 and held >= st[b + R_ADAPTERS]:
        st[oldest + A_USED] = -1


@kernel
def end_use(st: Ints, rq: Rows, b: int, i: int) -> None:
    """Count a sequence of request ``i``'s adapter out; the adapter stays on the device until its place is needed."""
    adapter = rq[i * Q_SIZE + Q_ADAPTER]
    if adapter < 0:
        return
    e = adapter_entry(st, b, adapter)
    st[e + A_RUNNING] -= 1
    if st[e + A_RUNNING] == 0:
        st[b + R_ADAPTERS_ON] -= 1
        st[b + R_ADAPTER_TURN] += 1
        st[e + A_USED] = st[b + R_ADAPTER_TURN]


@kernel
def lose_adapters(st: Ints, b: int) -> None:
    """Empty all adapter places: the device has stopped."""
    for a in range(st[H_CLASSES]):
        st[adapter_entry(st, b, a) + A_USED] = -1


@kernel
def adapter_time(st: Ints, sx: Floats, b: int, x: int) -> float:
    """Return the time that the step under way takes longer because of adapters, loading included."""
    if st[b + R_ADAPTERS_ON] == 0:
        return 0.0
    return sx[x + X_ADAPTER_S] + sx[x + X_ADAPTER_EACH_S] * st[b + R_ADAPTERS_ON] + sx[x + X_LOADING]
