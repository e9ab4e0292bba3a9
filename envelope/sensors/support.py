"""Which 16-bit formats the runtime multiplies itself, and which it merely casts to float32."""

import tempfile
from pathlib import Path
from typing import Any

from envelope.sensors.onnx_graph import IR_VERSION, OPSET, onnx_module, runtime

_ELEMENT_TYPES = {"fp16": 10, "bf16": 16}
"""Numbers of the element types in ONNX (TensorProto.DataType)."""


def sixteen_bit_support() -> dict[str, str]:
    """Return ``native``, ``cast to float32`` or ``not implemented`` for MatMul in each 16-bit format on the CPU."""
    return {name: _support(kind) for name, kind in _ELEMENT_TYPES.items()}


def _support(kind: int) -> str:
    ort, helper = runtime(), onnx_module().helper
    values = [helper.make_tensor_value_info(name, kind, [64, 64]) for name in ("x", "w", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "support", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "optimised.onnx"
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(saved)
        options.log_severity_level = 4
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if "NOT_IMPLEMENTED" not in str(error):
                raise
            return "not implemented"
        nodes: Any = onnx_module().load(str(saved)).graph.node
        return "cast to float32" if any(node.op_type == "Cast" for node in nodes) else "native"
