"""Runtimes of torch itself: eager, compiled, and replayed as a CUDA graph."""

from __future__ import annotations

import importlib.util
import os
import shutil
import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from detectors.interface import Detections, Detector, as_float32
from harness.config.runtime import RuntimeConfig, RuntimeUnavailable
from harness.measure.inputs import Inputs
from harness.measure.runtimes.precision import DTYPES
from harness.measure.runtimes.runtime import Runtime

COMPILERS = ("c++", "g++", "clang++")
FIXED = "recorded in tensors of fixed size, eager where these do not suffice"
WARM_UP = 3  # calls before a compiled network is called, or recorded, in earnest
ResultT = TypeVar("ResultT")


class Recorder(Protocol):
    """Records what work queues on a GPU."""

    def __call__(self, work: Callable[[], ResultT]) -> tuple[ResultT, Callable[[], None]]:
        """Do work once; return its result, and a function that does it again into that result."""


def eager(
    detector: Detector, inputs: Sequence[Inputs], config: RuntimeConfig, device: str
) -> Runtime:
    """Run operator by operator, as torch does unless told otherwise."""
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    dtype = DTYPES[config.precision]
    deployed = detector.deploy().to(device, dtype)
    if config.channels_last:
        deployed = deployed.to(memory_format=layout)
    return Runtime(
        config,
        tuple(
            item._replace(
                images=item.images.to(device, dtype).contiguous(memory_format=layout),
                sizes=item.sizes.to(device),
            )
            for item in inputs
        ),
        network=deployed,
        postprocess=in_float32(deployed.postprocess),
        detector=deployed,
        candidates=counter(deployed.postprocess),
        details={"torch": torch.__version__},
    )


def in_float32(postprocess: nn.Module) -> Callable[[Any, Tensor], Any]:
    """Return postprocessing that receives the outputs in float32."""

    def work(outputs: Any, sizes: Tensor) -> Any:
        return postprocess(as_float32(outputs), sizes)

    return work


def counter(postprocess: nn.Module) -> Callable[[Any], Tensor] | None:
    """Return what counts the boxes that enter NMS; None where there is no NMS."""
    ask: Callable[[Any], Tensor] | None = getattr(postprocess, "candidates", None)
    return None if ask is None else lambda outputs: ask(as_float32(outputs))


def compiled(
    detector: Detector, inputs: Sequence[Inputs], config: RuntimeConfig, device: str
) -> Runtime:
    """Run what torch.compile makes of the whole network, for inputs of this shape."""
    _require_compiler(torch.device(device).type)
    runtime = eager(detector, inputs, config, device)
    deployed, runtime.detector = runtime.detector, None
    assert deployed is not None
    runtime.network = torch.compile(
        _own_code(deployed), mode=config.compile_mode, fullgraph=True, dynamic=False
    )
    try:
        with runtime.active():
            for _ in range(WARM_UP):
                runtime.network(runtime.inputs[0].images)
    except Exception as error:  # a compiler fails in many ways
        raise RuntimeUnavailable(
            f"torch.compile cannot run this detector: {first_line(error)}; use runtime eager"
        ) from error
    runtime.fixed = True
    return runtime


def _own_code(deployed: nn.Module) -> Callable[[Tensor], Any]:
    """Return a function that calls a network, with a code object of its own.

    torch keeps what it compiled with the code object, and tries one after the other before a call:
    detectors of one class would wait for each other, and after eight of them nothing is compiled.
    """

    def network(images: Tensor) -> Any:
        return deployed(images)

    return types.FunctionType(
        network.__code__.replace(), globals(), "network", None, network.__closure__
    )


def _require_compiler(kind: str) -> None:
    """Refuse where torch.compile has nothing to compile with."""
    if kind == "cuda" and importlib.util.find_spec("triton") is None:
        raise RuntimeUnavailable(
            "torch.compile needs triton on a GPU, which is not installed; install triton"
        )
    wanted = os.environ.get("CXX")
    if not any(map(shutil.which, (wanted,) if wanted else COMPILERS)):
        raise RuntimeUnavailable(
            f"torch.compile needs a C++ compiler, there is no {wanted or 'c++'}; install g++"
        )


def first_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def record(device: str, work: Callable[[], ResultT]) -> tuple[ResultT, Callable[[], None]]:
    """Record a CUDA graph of work that was done before, on a stream of its own."""
    with torch.cuda.device(device):
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()
    return result, graph.replay


def waits(work: Callable[[], Any]) -> str | None:
    """Say why work cannot be recorded: it waits for the GPU. None where it does not."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        return first_line(error)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return None


def graphed(
    detector: Detector, inputs: Sequence[Inputs], config: RuntimeConfig, device: str
) -> Runtime:
    """Run by replaying a CUDA graph of the network, and of postprocessing where it never waits."""
    if torch.device(device).type != "cuda":
        raise RuntimeUnavailable(
            f"a CUDA graph needs a GPU, and this is {device}; use runtime compile or --device cuda"
        )
    runtime = eager(detector, inputs, config, device)
    try:
        replay(runtime, partial(record, device), waits)
    except RuntimeError as error:
        raise RuntimeUnavailable(
            f"a CUDA graph of this detector cannot be recorded: {first_line(error)}; "
            "use runtime eager"
        ) from error
    return runtime


def replay(
    runtime: Runtime, recorder: Recorder, waits: Callable[[Callable[[], Any]], str | None]
) -> None:
    """Record the calls of an eager runtime, and replay them in its place.

    Args:
        runtime: eager; it is changed.
        recorder: records work.
        waits: says why work cannot be recorded.
    """
    with runtime.active():
        graph = _Graph(runtime, recorder, waits)
    runtime.network, runtime.postprocess, runtime.detector = graph.network, graph.postprocess, None
    runtime.details["postprocess"] = graph.how


class _Graph:
    """A network, and its postprocessing if possible, recorded on inputs that stay in one place."""

    def __init__(
        self, runtime: Runtime, recorder: Recorder, waits: Callable[[Callable[[], Any]], str | None]
    ) -> None:
        self.images, self.sizes = (part.clone() for part in runtime.inputs[0])
        network, self._plain = runtime.network, runtime.postprocess
        self.outputs, self._run = recorder(lambda: network(self.images))
        self._run()
        self.found: Any = None
        self.how = self._record_postprocess(runtime, recorder, waits)

    def _record_postprocess(
        self, runtime: Runtime, recorder: Recorder, waits: Callable[[Callable[[], Any]], str | None]
    ) -> str:
        """Record postprocessing, or what finds the same without waiting; say which, or why not."""
        ask = getattr(getattr(runtime.detector, "postprocess", None), "without_waiting", None)
        ways: dict[str, Callable[[Any, Tensor], Any]] = {"recorded": self._plain}
        if ask is not None:
            ways[FIXED] = in_float32(ask())
        reasons = []
        for how, way in ways.items():
            work = partial(way, self.outputs, self.sizes)
            work()  # what is made on the first call only may wait
            reasons.append(waits(work))
            if reasons[-1] is None:
                self.found, self._finish = recorder(work)
                return how
        return f"eager, since it waits: {reasons[0]}"

    def network(self, images: Tensor) -> Any:
        """Predict; what the call before returned is overwritten."""
        if images.shape != self.images.shape:
            raise ValueError(
                f"the graph was recorded for {list(self.images.shape)}, not {list(images.shape)}"
            )
        self.images.copy_(images)
        self._run()
        return self.outputs

    def postprocess(self, outputs: Any, sizes: Tensor) -> list[Detections]:
        """Find objects in what `network` returned; other outputs are not what was recorded."""
        if self.found is None or outputs is not self.outputs:
            return self._plain(outputs, sizes)
        self.sizes.copy_(sizes)
        self._finish()
        if self.how != FIXED:
            found: list[Detections] = self.found
            return found
        return self.found.unpad() if self.found.converged.all() else self._plain(outputs, sizes)
