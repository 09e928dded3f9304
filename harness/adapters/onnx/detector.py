"""An ONNX file under the contract of a detector, run by ONNX Runtime."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from detectors.config import KnobError
from harness.adapters.model import ForeignDetector
from harness.adapters.onnx import graph, layouts
from harness.adapters.onnx.config import OnnxConfig
from harness.adapters.onnx.decode import decode
from harness.adapters.onnx.edit import fixed, with_suppression
from harness.machine.sessions import (
    CPU,
    CUDA,
    Providers,
    SessionError,
    cuda_options,
    open_session,
)

PROFILED = 5  # calls that the share of suppression is taken from


class OnnxDetector(ForeignDetector):
    """A graph, what its outputs mean, and what follows it."""

    network: Network

    def __init__(self, config: OnnxConfig) -> None:
        super().__init__()
        self.config: Any = config
        if config.facts.sha256 != config.sha256:
            raise KnobError(f"{config.name}: the file has changed since it was named; begin anew")
        lacking = config.lacks()
        if lacking is not None:
            raise KnobError(f"{config.name}: {lacking}")
        self.network = Network(config)
        self.postprocess = config.postprocess.build()

    def deploy(self) -> OnnxDetector:
        """Return a copy with a session of its own, which is opened at once.

        Raises:
            KnobError: ONNX Runtime cannot run the graph.
        """
        deployed: OnnxDetector = copy.deepcopy(self).eval()
        deployed.network.session("cpu")
        return deployed

    def runtime(self) -> dict[str, Any]:
        """Return the library and how it runs; see `RunsItself`."""
        library = graph.require("onnxruntime")
        return {
            "runtime": "onnxruntime",
            "onnxruntime": library.__version__,
            "file_precision": self.config.facts.precision,
            "suppression_share": self.network.suppression_share(),
        }

    def graph(self, size: tuple[int, int]) -> Any:
        """Return the graph for one image of a size (h, w), pixels."""
        return fixed(self.config, size)


class Network(nn.Module):
    """Images to predictions, by a session of ONNX Runtime."""

    def __init__(self, config: OnnxConfig) -> None:
        super().__init__()
        self.config, self.facts = config, config.facts
        self.parts = layouts.parts(config.outputs, config.facts)
        self.sessions = _Sessions()
        images = config.facts.images
        assert images is not None
        self.images, self.at_once = images, images.shape[0]

    def forward(self, images: Tensor) -> Any:
        """Predict; a graph that takes so many images at once is called as often as need be."""
        at_once = self.at_once or len(images)
        found = [self._run(part) for part in torch.split(images, at_once)]
        parts = {role: _joined([item[role] for item in found]) for role in self.parts}
        size = (int(images.shape[2]), int(images.shape[3]))
        return decode(self.config.outputs, parts, size)

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        """Call the session on as many images as it takes, or on fewer."""
        count, height, width = len(images), *images.shape[2:]
        if self.at_once and count < self.at_once:
            images = torch.cat([images, images[-1:].expand(self.at_once - count, -1, -1, -1)])
        wanted = torch.float16 if self.images.type == "float16" else torch.float32
        images = images.to(wanted).contiguous()
        session, names = self.session(images.device.type), [p.name for p in self.parts.values()]
        if images.device.type == "cpu":
            feeds = {self.images.name: images.numpy(), **self._sizes(len(images), height, width)}
            arrays = session.run(names, feeds)
            tensors = [torch.from_numpy(array) for array in arrays]
        else:
            tensors = self._bound(session, names, images, (height, width))
        parts = dict(zip(self.parts, tensors, strict=True))
        return {
            role: (part.float() if part.is_floating_point() else part)[:count]
            for role, part in parts.items()
        }

    def _sizes(self, count: int, height: int, width: int) -> dict[str, NDArray[Any]]:
        """Return what the graph gets besides: that boxes are wanted in input pixels."""
        port = self.facts.sizes
        return {} if port is None else {
            port.name: np.tile(np.array([[width, height]], port.type), (count, 1))
        }  # fmt: skip

    def _bound(
        self, session: Any, names: Sequence[str], images: Tensor, size: tuple[int, int]
    ) -> list[Tensor]:
        """Call a session with images that lie on a GPU, where its outputs stay."""
        index, binding = images.device.index or 0, session.io_binding()
        kind = np.float16 if images.dtype == torch.float16 else np.float32
        place = ("cuda", index, kind, tuple(images.shape), images.data_ptr())
        binding.bind_input(self.images.name, *place)
        for name, array in self._sizes(len(images), *size).items():
            binding.bind_cpu_input(name, array)
        for name in names:
            binding.bind_output(name, "cuda", index)
        session.run_with_iobinding(binding)
        values = (value._ortvalue.to_dlpack() for value in binding.get_outputs())
        return [from_dlpack(value).clone() for value in values]

    def session(self, kind: str) -> Any:
        """Return the session for a kind of device, opened when it is asked for first.

        Raises:
            KnobError: ONNX Runtime cannot run the graph there.
        """
        key = f"{kind} {torch.get_num_threads()}"
        if key not in self.sessions.opened:
            self.sessions.opened[key] = self._open(kind)
        return self.sessions.opened[key]

    def _open(self, kind: str, profile: str | None = None) -> Any:
        library: Any = graph.require("onnxruntime")
        if kind not in ("cpu", "cuda"):
            raise KnobError(f"{self.config.name}: runs on cpu and cuda, not on {kind}")
        if kind == "cuda" and CUDA not in library.get_available_providers():
            raise KnobError(
                f"{self.config.name}: onnxruntime {library.__version__} is installed without"
                f" {CUDA}; install onnxruntime-gpu in place of onnxruntime, or take --device cpu"
            )
        on_gpu: Providers = [(CUDA, cuda_options(kind))] if kind == "cuda" else []
        try:
            model = with_suppression(self.config)
            return open_session(library, model, [*on_gpu, (CPU, {})], profile=profile)
        except SessionError as error:
            raise KnobError(f"{self.config.name}: ONNX Runtime cannot run it: {error}") from error

    def suppression_share(self) -> float | None:
        """Return the share of the graph's time that its suppression takes, on noise.

        None where there is none in it.
        """
        if graph.SUPPRESSION not in self.facts.operators:
            return None
        images = torch.rand(
            self.at_once or 1, 3, *self.config.input.size, generator=torch.Generator()
        )
        with tempfile.TemporaryDirectory() as folder:
            session = self._open("cpu", str(Path(folder, "profile")))
            feeds = {
                self.images.name: images.numpy().astype(self.images.type),
                **self._sizes(len(images), *self.config.input.size),
            }
            for _ in range(PROFILED):
                session.run(None, feeds)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        kernels = [item for item in events if item.get("name", "").endswith("_kernel_time")]
        whole = sum(item["dur"] for item in kernels)
        own = (item["dur"] for item in kernels if item["args"]["op_name"] == graph.SUPPRESSION)
        return sum(own) / whole if whole else None


class _Sessions:
    """Sessions by kind of device and threads; a copy of a network opens its own."""

    def __init__(self) -> None:
        self.opened: dict[str, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Sessions:
        """Return none of them: they cannot be copied."""
        return _Sessions()


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Join the outputs of several calls; a graph may find fewer things in one than in another."""
    if len(parts) == 1:
        return parts[0]
    most = max(part.shape[1] for part in parts)
    filled = [
        torch.cat([part, part.new_zeros(len(part), most - part.shape[1], *part.shape[2:])], dim=1)
        for part in parts
    ]
    return torch.cat(filled)
