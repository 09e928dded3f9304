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

_NO_FORMULA = ("Attention", "ConvTranspose", "DeformConv", "Einsum", "GRU", "LSTM", "RNN")


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
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    shapes = _shapes(graph)
    by_stage: Counter[str] = Counter()
    by_operator: Counter[str] = Counter()
    not_counted: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in _FORMULAS:
            macs = _macs(node, shapes)
            by_operator[node.op_type] += macs
            by_stage[_stage(node)] += macs
        elif node.op_type in _NO_FORMULA:
            not_counted[node.op_type] += 1
    total = by_operator.total()
    counts = (dict(counter) for counter in (by_stage, by_operator, not_counted))
    return GraphMacs(_parameters(graph), total, *counts)


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


def _macs(node: Any, shapes: Mapping[str, list[int]]) -> int:
    try:
        left, right, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
    except KeyError as error:
        raise ExportError(
            f"{node.op_type} {node.name}: the shape of {error} is not known; "
            "export for a fixed input size"
        ) from error
    return _FORMULAS[node.op_type](node, left, right, out)


def _conv(node: Any, left: list[int], right: list[int], out: list[int]) -> int:
    return math.prod(out) * math.prod(right[1:])


def _gemm(node: Any, left: list[int], right: list[int], out: list[int]) -> int:
    turned = any(item.name == "transA" and item.i for item in node.attribute)
    return math.prod(out) * left[0 if turned else 1]


def _matmul(node: Any, left: list[int], right: list[int], out: list[int]) -> int:
    return math.prod(out) * left[-1]


_FORMULAS = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}
