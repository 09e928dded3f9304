"""Parameters and multiply-accumulates of an exported graph."""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detectors.interface import STAGES
from harness.measure.runtimes.export import SCOPES, ExportError, element_types, require

_NO_FORMULA = ("Attention", "DeformConv", "Einsum", "GRU", "LSTM", "RNN")
UNKNOWN = " of unknown shape"  # after the type of a node whose products cannot be counted


class GraphMacs(NamedTuple):
    """What an exported graph stores, and its multiply-accumulates."""

    params: int
    macs: int
    by_stage: dict[str, int]  # macs; of nodes that do not tell, under the empty name
    by_operator: dict[str, int]  # macs
    not_counted: dict[str, int]  # operator -> calls: it holds products, and there is no formula


def count_macs(path: Path) -> GraphMacs:
    """Count what an exported graph stores of its detector, and the products of its nodes.

    Numbers of floating point are parameters where they have a name in a stage of the detector. The
    exporter leaves out biases that are zero, as many of an untrained detector are.

    Raises:
        ExportError: ONNX is not installed, or the shape of a product is not known.
    """
    onnx: Any = require("onnx")
    model = onnx.shape_inference.infer_shapes(_of_one(onnx.load(path)), data_prop=True)
    found = count_graph(model)
    lost = [name for name in found.not_counted if name.endswith(UNKNOWN)]
    if lost:
        raise ExportError(f"{lost[0]}; export for a fixed input size")
    return found._replace(params=_parameters(model.graph))


def _of_one(model: Any) -> Any:
    """Fix a batch that is left open at one image, in place."""
    sides = model.graph.input[0].type.tensor_type.shape.dim
    if not sides[0].HasField("dim_value"):
        sides[0].dim_value = 1
        del model.graph.value_info[:]
        for port in model.graph.output:
            port.type.tensor_type.ClearField("shape")
    return model


def count_graph(model: Any) -> GraphMacs:
    """Count the numbers that a graph stores, and the products of its nodes.

    Args:
        model: of ONNX, with the shapes of its tensors as far as they are known.
    """
    graph = model.graph
    shapes = _shapes(graph)
    by_stage: Counter[str] = Counter()
    by_operator: Counter[str] = Counter()
    not_counted: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in _FORMULAS:
            macs = _macs(node, shapes)
            if macs is None:
                not_counted[f"{node.op_type}{UNKNOWN}"] += 1
                continue
            by_operator[node.op_type] += macs
            by_stage[_stage(node)] += macs
        elif node.op_type in _NO_FORMULA:
            not_counted[node.op_type] += 1
    total = by_operator.total()
    counts = (dict(counter) for counter in (by_stage, by_operator, not_counted))
    return GraphMacs(_stored(graph), total, *counts)


def _stored(graph: Any) -> int:
    """Count the numbers that a graph's operators learnt: of convolutions, products and norms.

    What is only calculated with, such as the places of a grid, is no parameter.
    """
    shapes = {item.name: list(item.dims) for item in graph.initializer}
    given = {out: name for node in graph.node for out, name in _same(node)}
    found = set[str]()
    for node in graph.node:
        names = {_source(name, given) for name in node.input} & shapes.keys()
        if node.op_type in _LEARNT:
            found |= names
        elif node.op_type in _SHIFTED:
            found |= {name for name in names if max(shapes[name], default=1) == _size(shapes[name])}
    return sum(size for name in found if (size := _size(shapes[name])) > 1)


def _size(shape: list[int]) -> int:
    return math.prod(shape)


def _same(node: Any) -> list[tuple[str, str]]:
    """Return what a node only hands on in another type or shape: its output and its input."""
    return [(node.output[0], node.input[0])] if node.op_type in _HAND_ON else []


def _source(name: str, given: Mapping[str, str]) -> str:
    while name in given:
        name = given[name]
    return name


def _parameters(graph: Any) -> int:
    """Count what is stored of the detector, each tensor once however often it is used."""
    kinds = set(element_types().values())
    return sum(
        math.prod(item.dims)
        for item in graph.initializer
        if item.data_type in kinds and item.name.partition(".")[0] in STAGES
    )


def _stage(node: Any) -> str:
    """Return the stage that a node was made from, which the exporter keeps beside it."""
    for item in node.metadata_props:
        if item.key == SCOPES:
            return next((part for part in ast.literal_eval(item.value) if part), "").split(".")[0]
    return ""


def _shapes(graph: Any) -> dict[str, list[int]]:
    """Return the shapes of a graph's tensors, as far as they are known and fixed."""
    shapes = {item.name: list(item.dims) for item in graph.initializer}
    for item in (*graph.input, *graph.value_info, *graph.output):
        sides = item.type.tensor_type.shape.dim
        if all(side.HasField("dim_value") for side in sides):
            shapes[item.name] = [side.dim_value for side in sides]
    return shapes


def _macs(node: Any, shapes: Mapping[str, list[int]]) -> int | None:
    """Return the products of a node; None where a shape is not known."""
    places = _QUANTISED.get(node.op_type, (0, 1))
    names = (*(node.input[place] for place in places), node.output[0])
    known = [shapes[name] for name in names if name in shapes]
    if len(known) < len(names):
        return None
    return _FORMULAS[node.op_type](node, *known)


def _conv(node: Any, left: list[int], right: list[int], out: list[int]) -> int:
    return math.prod(out) * math.prod(right[1:])


def _gemm(node: Any, left: list[int], right: list[int], out: list[int]) -> int:
    turned = any(item.name == "transA" and item.i for item in node.attribute)
    return math.prod(out) * left[0 if turned else 1]


def _matmul(node: Any, left: list[int], right: list[int], out: list[int]) -> int:
    return math.prod(out) * left[-1]


def _transposed(node: Any, left: list[int], right: list[int], out: list[int]) -> int:
    return math.prod(left) * math.prod(right[1:])


_FORMULAS = {
    **dict.fromkeys(("Conv", "FusedConv", "QLinearConv", "ConvInteger"), _conv),
    **dict.fromkeys(("Gemm", "FusedGemm"), _gemm),
    **dict.fromkeys(("MatMul", "FusedMatMul", "QLinearMatMul", "MatMulInteger"), _matmul),
    "ConvTranspose": _transposed,
}
_QUANTISED = {"QLinearConv": (0, 3), "QLinearMatMul": (0, 3)}  # whose scales stand between
_LEARNT = (*_FORMULAS, "BatchNormalization", "LayerNormalization", "PRelu")
_SHIFTED = ("Add", "Mul")  # of which a vector is a bias or a scale
_HAND_ON = ("Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Transpose")
