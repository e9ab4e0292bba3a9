"""Building small ONNX graphs with weights in memory, and running them in ONNX Runtime.

Weights are random and *different in every tensor*: ONNX Runtime merges initialisers of equal content into
one buffer, which then stays in the cache, and a probe on it would read twice the true rate of memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envelope.errors import MissingExtraError

Array = NDArray[Any]

MICROSOFT = "com.microsoft"
"""Operator domain of ONNX Runtime's own operators (MatMulNBits, GroupQueryAttention, MoE …)."""
OPSET = 21
IR_VERSION = 10


def runtime() -> Any:
    """Return the ``onnxruntime`` module; raises ``MissingExtraError`` without the ``probe`` extra."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "probe") from None
    return onnxruntime


def onnx_module() -> Any:
    """Return the ``onnx`` module; raises ``MissingExtraError`` without the ``probe`` extra."""
    try:
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise MissingExtraError("onnx", "probe") from None
    return onnx


class Weights:
    """Source of cheap random tensors, each different from the one before."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def floats(self, *shape: int) -> Array:
        """Return float32 values, uniform in ±√3/√fan_in so that activations neither vanish nor explode."""
        scale = np.float32(2.0 * np.sqrt(3.0 / shape[-2 if len(shape) > 1 else 0]))
        values = self._rng.random(shape, dtype=np.float32)
        values -= np.float32(0.5)
        values *= scale
        return values

    def codes(self, *shape: int, dtype: type = np.uint8) -> Array:
        """Return random bytes."""
        return np.frombuffer(self._rng.bytes(int(np.prod(shape))), dtype=dtype).reshape(shape)

    def scales(self, magnitude: float, *shape: int) -> Array:
        """Return float32 scales of quantised weights, of one magnitude and either sign.

        Unsigned codes have a mean of their own; with one sign it would pile up along a decoder until attention
        computes with denormal numbers, which is slow.
        """
        values = self._rng.random(shape, dtype=np.float32)
        values -= np.float32(0.5)
        signed: Array = np.copysign(np.float32(magnitude), values) + values * np.float32(1e-3 * magnitude)
        return signed


@dataclass(slots=True)
class Graph:
    """A graph under construction; tensors are named by the strings that the methods return."""

    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    def weight(self, array: Array) -> str:
        """Add an initialiser."""
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def constant(self, array: Array) -> str:
        """Add a small constant that the runtime must know while it loads the graph (shapes)."""
        tensor = onnx_module().numpy_helper.from_array(array)
        return self.node("Constant", [], value=tensor)

    def input(self, name: str, shape: Sequence[int | str], dtype: type = np.float32) -> str:
        """Add a graph input; strings are free dimensions."""
        self.inputs.append(self._value(name, shape, dtype))
        return name

    def output(self, name: str, shape: Sequence[int | str], dtype: type = np.float32) -> str:
        """Mark a tensor as a graph output."""
        self.outputs.append(self._value(name, shape, dtype))
        return name

    def node(self, op: str, inputs: Sequence[str], *, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Add an operator and return its first output; the others end in ``_1``, ``_2`` and so on."""
        base = f"t{len(self.nodes)}"
        names = [base, *(f"{base}_{i}" for i in range(1, outputs))]
        self.nodes.append(onnx_module().helper.make_node(op, list(inputs), names, domain=domain, **attributes))
        return base

    def named_node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Add an operator of ONNX Runtime whose outputs have given names; an empty name is an output not wanted."""
        self.nodes.append(
            onnx_module().helper.make_node(op, list(inputs), list(outputs), domain=MICROSOFT, **attributes)
        )

    def _value(self, name: str, shape: Sequence[int | str], dtype: type) -> Any:
        helper = onnx_module().helper
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))

    def session(self, threads: int) -> "Session":
        """Load the graph into ONNX Runtime; the graph's own arrays are released."""
        ort, helper = runtime(), onnx_module().helper
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in self.weights.items()}
        options.add_external_initializers(list(values), list(values.values()))
        graph = helper.make_graph(
            self.nodes, "probe", self.inputs, self.outputs, [self._placeholder(n, a) for n, a in self.weights.items()]
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        self.weights.clear()
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Session(session, tuple(values.values()))

    @staticmethod
    def _placeholder(name: str, array: Array) -> Any:
        """Return an initialiser whose data lies outside the model, which a protobuf limits to 2 GiB."""
        onnx = onnx_module()
        tensor = onnx.TensorProto(name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
        tensor.dims.extend(array.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "in-memory"
        return tensor


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded graph; ``values`` keeps the memory of its weights alive."""

    session: Any
    values: tuple[Any, ...]

    def bind(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any] | None = None) -> "Bound":
        """Fix the inputs (arrays or OrtValues) and outputs; an output bound to an input's OrtValue is written in place.

        Outputs not named are allocated by the runtime.
        """
        ort = runtime()
        binding = self.session.io_binding()
        kept = []
        for name, value in inputs.items():
            fixed = ort.OrtValue.ortvalue_from_numpy(value) if isinstance(value, np.ndarray) else value
            kept.append(fixed)
            binding.bind_ortvalue_input(name, fixed)
        for output in self.session.get_outputs():
            given = (outputs or {}).get(output.name)
            if given is None:
                binding.bind_output(output.name, "cpu")
            else:
                binding.bind_ortvalue_output(output.name, given)
        return Bound(self.session, binding, tuple(kept))


@dataclass(frozen=True, slots=True)
class Bound:
    """A graph with fixed inputs and outputs; calling it runs the graph once."""

    session: Any
    binding: Any
    kept: tuple[Any, ...]

    def __call__(self) -> None:
        """Run once."""
        self.session.run_with_iobinding(self.binding)

    def outputs(self) -> list[Array]:
        """Return the outputs of the last run."""
        return [np.asarray(value) for value in self.binding.copy_outputs_to_cpu()]


def io_value(array: Array) -> Any:
    """Return an OrtValue for binding the same memory as input and output."""
    return runtime().OrtValue.ortvalue_from_numpy(array)
