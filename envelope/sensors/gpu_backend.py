"""The library that runs GPU kernels: whichever of PyTorch, CuPy or ONNX Runtime CUDA is installed."""

from importlib import import_module
from typing import Any
from uuid import UUID

from envelope.sensors.gpu_cupy import CupyBackend
from envelope.sensors.gpu_kernels import Backend
from envelope.sensors.gpu_ort import OrtCudaBackend
from envelope.sensors.gpu_torch import TorchBackend


def backend(index: int = 0, uuid: str = "") -> Backend | str:
    """Return the first usable backend on one GPU, or one line saying that none is.

    ``index`` and ``uuid`` name the device as the driver counts; libraries may count in another order.
    """
    for make in (_torch, _cupy, _ort_cuda):
        found = make(index, uuid)
        if found is not None:
            return found
    return "GPU kernels not timed: none of torch, cupy, onnxruntime-gpu sees this GPU"


def _torch(index: int, uuid: str) -> Backend | None:
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    seen = [str(getattr(torch.cuda.get_device_properties(i), "uuid", "")) for i in range(torch.cuda.device_count())]
    own = position(index, uuid, seen)
    return None if own is None else TorchBackend(torch, torch.device("cuda", own))


def _cupy(index: int, uuid: str) -> Backend | None:
    try:
        cupy: Any = import_module("cupy")
    except ImportError:
        return None
    runtime = cupy.cuda.runtime
    try:
        seen = [_uuid_text(runtime.getDeviceProperties(i).get("uuid")) for i in range(runtime.getDeviceCount())]
    except runtime.CUDARuntimeError:
        return None
    own = position(index, uuid, seen)
    return None if own is None else CupyBackend(cupy, own)


def _ort_cuda(index: int, uuid: str) -> Backend | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    return OrtCudaBackend(index)


def _uuid_text(value: Any) -> str:
    """Return the 16 bytes of a UUID as text, empty for none."""
    return str(UUID(bytes=bytes(value)[:16])) if value and len(bytes(value)) >= 16 else ""


def position(index: int, uuid: str, seen: list[str]) -> int | None:
    """Return which of the devices that a library sees is the driver's; by UUID if both know it, else by index.

    >>> position(1, "GPU-aa", ["bb", "aa"]), position(0, "GPU-aa", ["", ""]), position(0, "GPU-aa", ["bb"])
    (1, 0, None)
    """
    bare = uuid.removeprefix("GPU-")
    if bare and any(seen):
        return next((i for i, other in enumerate(seen) if other.removeprefix("GPU-") == bare), None)
    return index if index < len(seen) else None
