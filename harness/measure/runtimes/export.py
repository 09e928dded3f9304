"""Export of a deployed detector to ONNX, checked against what it was exported from."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detectors.config import flatten
from detectors.interface import Detector
from harness.measure.inputs import Inputs
from harness.measure.runtimes import agreement
from harness.measure.runtimes.agreement import TOLERANCES, Agreement
from harness.records import files

INPUT = "images"
SEVERAL = 2  # images of a batch that a file for any batch is made with, and checked on
RANDOM = 2  # random images that a file is checked on
_TYPES = {torch.float32: "FLOAT", torch.float16: "FLOAT16", torch.bfloat16: "BFLOAT16"}
SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that it was made in, as text
TRACE = "pkg.torch.onnx.stack_trace"  # of a node: files and lines, which differ by machine
_CHATTY = ("onnxscript", "onnx_ir", "torch.onnx")
_WARNING = r"(torch|onnxscript|onnx_ir|copyreg)(\.|$)"


class ExportError(ValueError):
    """A detector that cannot be exported, or whose export predicts something else."""


class Exported(NamedTuple):
    """A file with a detector."""

    path: Path
    sha256: str
    opset: int
    operators: dict[str, int]  # calls by type
    parameters: int  # of the deployed detector
    agreement: Agreement  # with the detector


def export(
    detector: Detector,
    size: tuple[int, int],
    path: Path,
    opset: int | None = None,
    *,
    name: str | None = None,
    inputs: Sequence[Inputs] = (),
    classes: Sequence[str] | None = None,
    any_batch: bool = False,
) -> Exported:
    """Write a detector as ONNX, once ONNX Runtime was seen to agree.

    The file's outputs are the fields of what `forward` returns; it holds no postprocessing.

    Args:
        detector: the original; its deployed copy is exported.
        size: height and width of the input, pixels.
        path: the file, which is replaced.
        opset: version of ONNX's operators; the exporter's choice unless given.
        name: what the detector is called in the file; its type unless given.
        inputs: real images of this size that it is checked on, beside random ones.
        classes: their names by label; None where nothing tells them.
        any_batch: whether the file takes batches of any size, not of one image alone.

    Raises:
        ExportError: in one line, what is missing or why it cannot be exported.
    """
    onnx = require("onnx")
    deployed = detector.deploy().cpu()
    images = _images(size, inputs)
    if any_batch:
        images += [torch.cat(images[:SEVERAL])]
    graph = to_graph(deployed, images[-1 if any_batch else 0], opset, any_batch=any_batch)
    if opset not in (None, opset_of(graph)):
        raise ExportError(f"opset {opset}: the exporter made {opset_of(graph)}; name that or none")
    described = _describe(detector, size, name or type(detector).__name__)
    if classes is not None:
        described["classes"] = json.dumps(list(classes))
    onnx.helper.set_model_props(graph, described)
    content = graph.SerializeToString()
    found = _check(deployed, content, images)
    _put(path, content)
    return Exported(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        opset=opset_of(graph),
        operators=dict(Counter(node.op_type for node in graph.graph.node).most_common()),
        parameters=sum(parameter.numel() for parameter in deployed.parameters()),
        agreement=found,
    )


def require(name: str) -> ModuleType:
    """Import a library of the extra `export`.

    Raises:
        ExportError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"{name} cannot be imported ({error}); install detbench[export]"
        ) from error


def to_graph(
    deployed: Detector, images: Tensor, opset: int | None = None, *, any_batch: bool = False
) -> Any:
    """Return a deployed detector's `forward` as an ONNX model, for images of this shape and type.

    Args:
        deployed: on the CPU.
        images: [B, 3, H, W].
        opset: version of ONNX's operators; the exporter's choice unless given.
        any_batch: whether B is left open; it has to be above 1 here.

    Raises:
        ExportError: it cannot be exported.
    """
    for name in ("onnx", "onnxscript"):
        require(name)
    try:
        with _quietly():
            program: Any = torch.onnx.export(
                deployed,
                (images,),
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=_fields(deployed, images),
                dynamic_shapes=({0: torch.export.Dim("batch")},) if any_batch else None,
            )
    except Exception as error:  # tracing and translation fail in many ways
        lines = str(error).strip().splitlines() or [""]
        raise ExportError(
            f"the detector cannot be exported: {type(error).__name__}: {lines[0]}"
        ) from error
    graph = program.model_proto
    for node in graph.graph.node:
        _forget(node.metadata_props, TRACE)
    return graph


def _forget(facts: Any, key: str) -> None:
    """Take a fact out, so that equal detectors make equal files wherever they are exported."""
    for index in reversed([place for place, item in enumerate(facts) if item.key == key]):
        del facts[index]


@torch.inference_mode()
def _fields(deployed: Detector, images: Tensor) -> list[str]:
    outputs = deployed(images)
    for name, part in outputs._asdict().items():
        if not isinstance(part, Tensor):
            raise TypeError(f"output {name} is no tensor, but {type(part).__name__}")
    return list(outputs._fields)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter from warning of its own ways, and from logging what it optimises."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Anomaly Detection has been enabled", UserWarning)
            for category in (DeprecationWarning, FutureWarning):
                warnings.filterwarnings("ignore", category=category, module=_WARNING)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(detector: Detector, size: tuple[int, int], name: str) -> dict[str, str]:
    """Return what must be known to use a file, as text."""
    config = detector.config.input
    facts = {
        "detector": name,
        "knobs": flatten(detector.config),
        "num_classes": detector.config.num_classes,
        "input_size": list(size),
        "resize": config.resize,
        "interpolation": config.interpolation,
        "mean": list(config.mean),
        "std": list(config.std),
        "channels": config.channels,
        "pad_value": config.pad_value,
        "outputs": "logits before sigmoid; boxes xyxy in input pixels, not clipped; not suppressed",
        "torch": str(torch.__version__),
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()
    }


def _images(size: tuple[int, int], inputs: Sequence[Inputs]) -> list[Tensor]:
    """Return random and real images, [1, 3, H, W] each."""
    draw = torch.Generator().manual_seed(0)
    images = [torch.randn(1, 3, *size, generator=draw) for _ in range(RANDOM)]
    real = [image[None].cpu() for item in inputs for image in item.images]
    wrong = next((image for image in real if image.shape[2:] != size), None)
    if wrong is not None:
        raise ExportError(
            f"images to check on are {list(wrong.shape[2:])}, the input is {list(size)} (h, w)"
        )
    return images + real


def _check(deployed: Detector, content: bytes, images: Sequence[Tensor]) -> Agreement:
    """Refuse a file that ONNX Runtime finds something else with than the detector does."""
    library: Any = require("onnxruntime")
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = library.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    pairs = []
    with torch.inference_mode():
        for image in images:
            outputs = deployed(image)
            found = session.run(list(outputs._fields), {INPUT: image.numpy()})
            pairs.append((outputs, type(outputs)(*map(torch.from_numpy, found))))
    result = agreement.compare(pairs, TOLERANCES["fp32"])
    if not result.holds:
        raise ExportError(f"the exported detector is another one: {result}")
    return result


def _put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with files.whole(path) as file:
        file.write(content)


def opset_of(graph: Any) -> int:
    """Return the version of ONNX's operators in a model."""
    return next(int(item.version) for item in graph.opset_import if item.domain in ("", "ai.onnx"))


def element_types() -> dict[torch.dtype, int]:
    """Return ONNX's number of each type of tensor."""
    onnx: Any = require("onnx")
    return {dtype: getattr(onnx.TensorProto, name) for dtype, name in _TYPES.items()}
