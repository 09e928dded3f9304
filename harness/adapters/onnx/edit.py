"""Copies of a graph: for one image of one size, and with other thresholds in its suppression."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from detectors.config import KnobError
from harness.adapters.onnx import graph
from harness.adapters.onnx.config import InsideConfig, OnnxConfig
from harness.machine.sessions import CPU, SessionError, open_session

COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # whose shapes have to be known
_PLACES = {"iou_threshold": 3, "score_threshold": 4}  # among the inputs of suppression


def fixed(config: OnnxConfig, size: tuple[int, int]) -> Any:
    """Return the graph for one image, with the shapes of its tensors as far as they are known.

    Args:
        config: of the file.
        size: height and width of the input, pixels.
    """
    onnx: Any = graph.require("onnx")
    model = graph.load(config.source)
    for port in model.graph.input:
        sides = port.type.tensor_type.shape.dim
        wanted = {4: (1, 3, *size), 2: (1, 2)}.get(len(sides), ())
        for side, length in zip(sides, wanted, strict=False):
            if not side.dim_value:
                side.dim_value = length
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")  # which may be of any batch
    del model.graph.value_info[:]
    return _with_shapes(onnx, onnx.shape_inference.infer_shapes(model, data_prop=True))


def _with_shapes(onnx: Any, model: Any) -> Any:
    """Add the shapes that only a call shows, such as those that a graph calculates."""
    known = {
        item.name
        for item in model.graph.value_info
        if all(side.dim_value for side in item.type.tensor_type.shape.dim)
    }
    known |= {item.name for item in (*model.graph.initializer, *model.graph.input)}
    lacking = {
        name
        for node in model.graph.node
        if node.op_type in COUNTED
        for name in (*node.input, node.output[0])
        if name and name not in known
    }
    if not lacking:
        return model
    asked, names = copy.deepcopy(model), sorted(lacking)
    del asked.graph.output[:]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    feeds = {port.name: _zeros(onnx, port) for port in model.graph.input}
    try:
        library = graph.require("onnxruntime")
        session = open_session(library, asked.SerializeToString(), [(CPU, {})])
        found = session.run(names, feeds)
    except (SessionError, ValueError):  # it stays unknown, and is named so
        return model
    kept = [item for item in model.graph.value_info if item.name not in lacking]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    for name, array in zip(names, found, strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    return model


def _zeros(onnx: Any, port: Any) -> Any:
    """Return an input of zeros."""
    kind = port.type.tensor_type
    sides = [side.dim_value for side in kind.shape.dim]
    return np.zeros(sides, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


def with_suppression(config: OnnxConfig) -> bytes | str:
    """Return the file, or its content with the thresholds of `config.inside`.

    Raises:
        KnobError: a threshold is calculated in the graph, so that it cannot be changed.
    """
    if config.inside == InsideConfig():
        return config.source
    onnx: Any = graph.require("onnx")
    model = graph.load(config.source)
    for node in model.graph.node:
        if node.op_type == graph.SUPPRESSION:
            for name, place in _PLACES.items():
                value = getattr(config.inside, name)
                if value is not None:
                    _set(onnx, model, node, place, value, f"{config.name}: inside.{name}")
    content: bytes = model.SerializeToString()
    return content


def _set(onnx: Any, model: Any, node: Any, place: int, value: float, what: str) -> None:
    """Give a node another number as an input of its own."""
    known = {item.name for item in model.graph.initializer}
    known |= {item.output[0] for item in model.graph.node if item.op_type == "Constant"}
    given = node.input[place] if len(node.input) > place else ""
    if given and given not in known:
        raise KnobError(f"{what} is calculated in the graph, and cannot be changed")
    while len(node.input) <= place:
        node.input.append("")
    name = f"detbench.{node.name or node.output[0]}.{place}"
    tensor = onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [1], [value])
    model.graph.initializer.append(tensor)
    node.input[place] = name
