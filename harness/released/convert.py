"""Released weights that there are only as a graph for inference, ONNX: turned into ours."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import detectors
from detectors import weights
from detectors.config import override
from detectors.interface import Detector, WeightsError

KNOWN = {"4720eda18a18402e7b76d85827d4bc60fba18111fc0b74b559e4d24da9ddc3d2": ("person",)}
"""Classes of files that do not name them, by sha256: mmpose's RTMDet-nano as zli20 exported it
(zli20/RtmDet-RtmPose-OnnxRuntime @f7cb01b models/rtmdet_nano.onnx)."""
APART = 1e-3  # share of a convolution's largest output, which rounding does not reach


class Converted(NamedTuple):
    """What a conversion did."""

    folder: Path
    convolutions: int
    classes: tuple[str, ...] | None
    apart: float  # largest difference from the graph, as a share of the largest output


def convert(
    file: Path, name: str, config: Any, out: Path, classes: Sequence[str] | None = None
) -> Converted:
    """Write the weights of a graph as a folder of ours, once they were seen to compute the same.

    Args:
        file: the graph, ONNX, whose norms were folded into convolutions.
        name: of the detector that it is of.
        config: of that detector; the number of classes is the graph's.
        out: the folder, which is made if need be.
        classes: their names by label; None for those that are known of this file.

    Raises:
        WeightsError: the file is no such graph, or not of this detector.
    """
    graph = _read(file)
    try:
        convolutions = _convolutions(graph)
        count = _count_classes(config.build(), convolutions)
        model = override(config, {"num_classes": count}).build().eval()
        weights.fill(model, detectors.unfold(model, convolutions))
        apart = _compare(model, graph)
    except WeightsError as error:
        raise WeightsError(f"{file}: cannot become a {name}: {error}") from error
    names = classes or KNOWN.get(hashlib.sha256(file.read_bytes()).hexdigest())
    if names is not None and len(names) != count:
        raise WeightsError(f"{file}: tells {count} classes apart, {len(names)} are named")
    weights.save(model, out, name, names)
    return Converted(out, len(convolutions), None if names is None else tuple(names), apart)


def _require(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise WeightsError(
            f"{name} cannot be imported ({error}); install detbench[export]"
        ) from error


def _read(file: Path) -> Any:
    onnx = _require("onnx")
    try:
        graph = onnx.load(file)
        onnx.checker.check_model(graph)
    except FileNotFoundError as error:
        raise WeightsError(f"{file}: no such file") from error
    except Exception as error:  # onnx names no class for all ways in which a file is damaged
        raise WeightsError(f"{file}: no ONNX graph that can be read: {_line(error)}") from error
    return graph


def _convolutions(graph: Any) -> list[detectors.Convolution]:
    """Return the convolutions in the order of the graph, in which it runs them."""
    onnx = _require("onnx")
    stored = {item.name: item for item in graph.graph.initializer}

    def tensor(name: str) -> Tensor:
        if name not in stored:
            raise WeightsError(f"{name}: these weights are not stored in the graph")
        return torch.from_numpy(np.array(onnx.numpy_helper.to_array(stored[name]), np.float32))

    found = []
    for node in _nodes(graph):
        told = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        weight, *rest = map(tensor, node.input[1:])
        stride, groups = told.get("strides", [1])[0], told.get("group", 1)
        found.append(detectors.Convolution(weight, rest[0] if rest else None, stride, groups))
    return found


def _nodes(graph: Any) -> list[Any]:
    return [node for node in graph.graph.node if node.op_type == "Conv"]


def _count_classes(detector: Detector, convolutions: Sequence[detectors.Convolution]) -> int:
    """Return the number of classes of a graph, which its first classifier tells."""
    rows, own = detector.class_tensors(), detector.state_dict()
    count: int = detector.config.num_classes
    for name, given in zip(detector.exported_convolutions(), convolutions, strict=False):
        if f"{name}.weight" in rows:
            return count + len(given.weight) - len(own[f"{name}.weight"])
    return count


def _compare(model: Detector, graph: Any) -> float:
    """Return how far the convolutions without a norm, predictors among them, are from the graph's.

    Raises:
        WeightsError: farther than rounding is: the layers were exported in another order.
    """
    pairs = zip(model.exported_convolutions(), _nodes(graph), strict=True)
    parts = {node.output[0]: model.get_submodule(name) for name, node in pairs}
    parts = {name: part for name, part in parts.items() if part.bias is not None}
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda part, _, output: seen.update({part: output.clone()}))
        for part in parts.values()
    ]
    images = torch.randn(1, 3, *model.config.input.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    apart = 0.0
    for part, expected in zip(parts.values(), _run(graph, list(parts), images), strict=True):
        largest = max(float(np.abs(expected).max()), 1e-6)
        apart = max(apart, float(np.abs(seen[part].numpy() - expected).max()) / largest)
    if apart > APART:
        raise WeightsError(
            f"its layers are apart from the graph's by {apart:.1%}; they fit, but not their order"
        )
    return apart


def _run(graph: Any, names: Sequence[str], images: Tensor) -> list[Any]:
    """Return some tensors inside a graph, by ONNX Runtime."""
    onnx, onnxruntime = _require("onnx"), _require("onnxruntime")
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, names))
    try:
        session = onnxruntime.InferenceSession(
            watched.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        found: list[Any] = session.run(list(names), {graph.graph.input[0].name: images.numpy()})
    except Exception as error:  # onnxruntime's classes are not exported
        raise WeightsError(f"ONNX Runtime does not run it: {_line(error)}") from error
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
