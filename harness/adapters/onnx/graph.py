"""What an ONNX file says of itself: inputs, outputs, operators, metadata; needs no torch."""

from __future__ import annotations

import hashlib
import importlib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from detectors.config import KnobError

LARGEST = 2**31 - 1  # bytes of a message of protobuf
RUN = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc")
"""Domains whose operators ONNX Runtime has; its own first one is checked operator by operator."""
SUPPRESSION = "NonMaxSuppression"
FIRST = b"\x08"  # byte of a file: of the version of its format, which stands first
_QUANTISED = {"ConvInteger", "DequantizeLinear", "MatMulInteger", "QLinearConv", "QuantizeLinear"}
_CHUNK = 1 << 22  # bytes read at once


class Port(NamedTuple):
    """An input or output of a graph."""

    name: str
    type: str  # such as float32, int64
    shape: tuple[int | None, ...]  # None for a side of any length

    def __str__(self) -> str:
        """Write it as `name type [sides]`."""
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} {self.type} [{sides}]"


class Facts(NamedTuple):
    """What is known of a file."""

    sha256: str  # of the file, and of the files beside it in which weights lie
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: dict[str, str]
    operators: dict[str, int]  # calls by type
    precision: str  # of its weights: float32, float16 or int8
    labels: int  # classes that its own suppression or choice tells apart; 0 where it has none

    @property
    def images(self) -> Port | None:
        """The input for images, [B, 3, H, W] in floating point; None where there is none."""
        found = [port for port in self.inputs if len(port.shape) == 4]
        fits = len(found) == 1 and found[0].shape[1] in (3, None)
        return found[0] if fits and found[0].type in ("float32", "float16") else None

    @property
    def sizes(self) -> Port | None:
        """The input for the size that boxes are wanted in, [B, 2] (w, h); None without one."""
        found = [port for port in self.inputs if len(port.shape) == 2 and port.shape[1] == 2]
        return found[0] if len(found) == 1 else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images; None where the graph takes any."""
        sides = self.images.shape[2:] if self.images else (None, None)
        return None if None in sides else (int(sides[0] or 0), int(sides[1] or 0))

    def seen(self) -> str:
        """Say in one line what goes in and what comes out."""
        inputs, outputs = (", ".join(map(str, ports)) for ports in (self.inputs, self.outputs))
        return f"inputs {inputs}; outputs {outputs}"


def require(name: str) -> ModuleType:
    """Import a library of the extra `export`.

    Raises:
        KnobError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise KnobError(
            f"onnx: {name} cannot be imported ({error}); pip install 'detbench[export]'"
        ) from error


def read(file: str) -> Facts:
    """Read what a file says of itself; what was read before is known by the file's times.

    Raises:
        KnobError: in one line, why it is none that can be run.
    """
    path = Path(file)
    if not path.is_file():
        raise KnobError(f"onnx:{file}: no such file")
    known = path.stat()
    return _read(str(path), (known.st_size, known.st_mtime_ns, known.st_ino))


def load(file: str) -> Any:
    """Return a file as an ONNX model, with the weights that lie beside it."""
    return require("onnx").load(file)


@lru_cache(maxsize=32)
def _read(file: str, stamp: tuple[int, ...]) -> Facts:
    if stamp[0] > LARGEST:
        raise KnobError(
            f"onnx:{file}: over 2 GB, which no ONNX file in one piece can be; save its weights"
            " beside it (onnx.save with save_as_external_data=True)"
        )
    with Path(file).open("rb") as opened:
        if opened.read(1) != FIRST:
            raise KnobError(f"onnx:{file}: no ONNX file, it begins like something else")
    onnx: Any = require("onnx")
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's own, which differ by version
        raise KnobError(f"onnx:{file}: no ONNX file, it cannot be parsed") from error
    if not model.graph.node or not model.graph.output:
        raise KnobError(f"onnx:{file}: no ONNX file, there is no graph in it")
    beside = _beside(model, file)
    _check_operators(onnx, model, file)
    initializers = {item.name for item in model.graph.initializer}
    return Facts(
        sha256=_hash([Path(file), *beside]),
        inputs=tuple(_port(onnx, p) for p in model.graph.input if p.name not in initializers),
        outputs=tuple(_port(onnx, port) for port in model.graph.output),
        metadata={item.key: item.value for item in model.metadata_props},
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        precision=_precision(onnx, model),
        labels=_labels(onnx, model),
    )


def _beside(model: Any, file: str) -> list[Path]:
    """Return the files in which weights lie.

    Raises:
        KnobError: one is missing.
    """
    names = {
        item.value
        for tensor in model.graph.initializer
        for item in tensor.external_data
        if item.key == "location"
    }
    found = [Path(file).parent / name for name in sorted(names)]
    missing = next((path for path in found if not path.is_file()), None)
    if missing is not None:
        raise KnobError(f"onnx:{file}: its weights lie in {missing}, which is not there")
    return found


def _check_operators(onnx: Any, model: Any, file: str) -> None:
    """Refuse operators that ONNX Runtime does not have."""
    own = {(item.domain, item.name) for item in model.functions}
    for node in _nodes(model.graph):
        known = node.domain in RUN and (node.domain or onnx.defs.has(node.op_type))
        if not known and (node.domain, node.op_type) not in own:
            name = "::".join(filter(None, (node.domain, node.op_type)))
            raise KnobError(
                f"onnx:{file}: ONNX Runtime has no operator {name}; export it without"
                " operators of another runtime's"
            )


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of the graphs in them."""
    for node in graph.node:
        yield node
        for item in node.attribute:
            if item.HasField("g"):
                yield from _nodes(item.g)


def _hash(files: list[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    return found.hexdigest()


def _port(onnx: Any, port: Any) -> Port:
    kind = port.type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim]
    name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    names = {"float": "float32", "double": "float64"}
    return Port(port.name, names.get(name, name), tuple(side or None for side in sides))


def _precision(onnx: Any, model: Any) -> str:
    if any(node.op_type in _QUANTISED for node in model.graph.node):
        return "int8"
    kinds = Counter[int]()
    for item in model.graph.initializer:
        kinds[item.data_type] += max(1, len(item.dims))
    half = kinds[onnx.TensorProto.FLOAT16]
    return "float16" if half > kinds[onnx.TensorProto.FLOAT] else "float32"


def _labels(onnx: Any, model: Any) -> int:
    """Return how many classes a graph's own suppression or choice of the best tells apart."""
    nodes = list(model.graph.node)
    suppressions = [node for node in nodes if node.op_type == SUPPRESSION]
    if suppressions:
        return _channels(onnx, model, suppressions[0].input[1])
    constants = _constants(onnx, model)
    chosen = {node.output[1] for node in nodes if node.op_type == "TopK"}
    divisors = {
        int(constants[node.input[1]])
        for node in nodes
        if node.op_type in ("Div", "Mod") and node.input[0] in chosen and node.input[1] in constants
    }
    return divisors.pop() if len(divisors) == 1 else 0


def _channels(onnx: Any, model: Any, name: str) -> int:
    """Return the second side of a tensor, scores [B, C, N]; 0 where it is not known."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # a graph that it cannot go through
        return 0
    for item in graph.value_info:
        if item.name == name:
            sides = item.type.tensor_type.shape.dim
            return int(sides[1].dim_value) if len(sides) == 3 else 0
    return 0


def _constants(onnx: Any, model: Any) -> dict[str, Any]:
    """Return the single numbers of a graph by name."""
    tensors = {item.name: item for item in model.graph.initializer if not item.external_data}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    read = onnx.numpy_helper.to_array
    small = {name: item for name, item in tensors.items() if max(item.dims, default=1) == 1}
    return {name: read(item).reshape(-1)[0] for name, item in small.items() if read(item).size}
