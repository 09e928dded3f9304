"""Small ONNX files: graphs that predict the same whatever they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = (64, 64)  # of images, pixels
OPSET, IR = 17, 8
Sides = Sequence[int | str]


def write(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    *,
    images: Sides = (1, 3, *SIZE),
    shapes: Mapping[str, Sides] | None = None,
    sizes: str = "",
    metadata: Mapping[str, str] | None = None,
    kind: str = "float32",
    operator: tuple[str, str] = ("Identity", ""),
    between: Sequence[Any] = (),
) -> str:
    """Write a graph with constant outputs, and return how the command names it.

    Args:
        path: of the file.
        outputs: by name.
        images: sides of the only input for images.
        shapes: what the file says of outputs, where that is not what they are.
        sizes: name of a second input, for the size of images; empty for none.
        metadata: of the file.
        kind: of the images.
        operator: and its domain, through which the outputs come.
        between: nodes besides.
    """
    import onnx  # an extra
    from onnx import TensorProto, helper, numpy_helper  # an extra

    types = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0, name="mean"),
        helper.make_node("Cast", ["mean"], ["plain"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["plain", "zero"], ["nothing"]),
        *between,
    ]
    initializers = [numpy_helper.from_array(np.array(0, np.float32), "zero")]
    ports = []
    for name, values in outputs.items():
        initializers.append(numpy_helper.from_array(values, f"{name}.values"))
        cast = helper.np_dtype_to_tensor_dtype(values.dtype)
        nodes += [
            helper.make_node("Cast", ["nothing"], [f"{name}.nothing"], to=cast),
            helper.make_node("Add", [f"{name}.values", f"{name}.nothing"], [f"{name}.sum"]),
            helper.make_node(operator[0], [f"{name}.sum"], [name], domain=operator[1]),
        ]
        sides = (shapes or {}).get(name, values.shape)
        ports.append(helper.make_tensor_value_info(name, cast, sides))
    given = [helper.make_tensor_value_info("images", types[kind], images)]
    if sizes:
        given.append(helper.make_tensor_value_info(sizes, TensorProto.INT64, [images[0], 2]))
        nodes.append(helper.make_node("Identity", [sizes], ["asked"]))
    graph = helper.make_graph(nodes, "small", given, ports, initializers)
    domains = [helper.make_opsetid("", OPSET)]
    domains += [helper.make_opsetid(operator[1], 1)] if operator[1] else []
    model = helper.make_model(graph, opset_imports=domains, ir_version=IR)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return f"onnx:{path}"


def cells(classes: int, found: Mapping[int, tuple[Sequence[float], int, float]]) -> NDArray[Any]:
    """Return [1, N, 5 + C] of a dense head for images of `SIZE`, in its three levels.

    Args:
        classes: their number.
        found: place to box (as it stands in the rows), label and score.
    """
    count = sum((SIZE[0] // stride) * (SIZE[1] // stride) for stride in (8, 16, 32))
    rows = np.zeros((1, count, 5 + classes), np.float32)
    rows[..., 2:4] = 1
    for place, (box, label, score) in found.items():
        rows[0, place, :4], rows[0, place, 4], rows[0, place, 5 + label] = box, 0.5, score / 0.5
    return rows


def array(*values: Any, kind: str = "float32") -> NDArray[Any]:
    """Return an array of a batch of one."""
    return np.array([values], kind)
