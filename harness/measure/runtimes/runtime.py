"""What a runtime offers: a detector that is ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from detectors.interface import Detections, Detector
from harness.config.runtime import RuntimeConfig
from harness.measure.inputs import Inputs
from harness.measure.runtimes.precision import switched


@dataclass
class Runtime:
    """A detector that is ready to be called, on inputs of one shape.

    Calls belong inside `active()`. What `network` returns may be overwritten by its next call.
    """

    config: RuntimeConfig
    inputs: tuple[Inputs, ...]
    """What it was prepared for, as `network` and `postprocess` take it."""
    network: Callable[[Tensor], Any]
    """Maps images [B, 3, H, W] to the detector's outputs."""
    postprocess: Callable[[Any, Tensor], list[Detections]]
    """Maps outputs and sizes [B, 2] (h, w), pixels, to detections."""
    detector: Detector | None = None
    """The module whose stages can be called one by one; None where the network is in one piece."""
    candidates: Callable[[Any], Tensor] | None = None
    """Counts the boxes of each image that enter NMS, [B]; None where there is no NMS."""
    details: dict[str, Any] = field(default_factory=dict)
    """Versions, providers, and the seconds it took to build."""
    fixed: bool = False
    """Whether a call that needs compilation is an error."""

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        """Find objects; images and sizes as in `inputs`."""
        return self.postprocess(self.network(images), sizes)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Set torch's global switches as this runtime was built with, and put them back.

        Raises:
            RuntimeError: inside, by a call that would have to be compiled again; the number of
                threads or the shape of the inputs is not the one that it was prepared with.
        """
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(switched(tf32=self.config.precision == "tf32"))
            if self.fixed:
                stack.enter_context(torch.compiler.set_stance("fail_on_recompile"))
            yield

    def close(self) -> None:
        """Let go of weights, sessions and graphs."""
        self.network = self.postprocess = _closed
        self.detector = self.candidates = None
        self.inputs = ()


def _closed(*_: Any) -> Any:
    raise RuntimeError("the runtime is closed; prepare it again")
