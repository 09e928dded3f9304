"""Runtimes: the ways to run a detector's network, behind one interface."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from detectors.interface import Detector, RunsItself
from harness.config.runtime import RuntimeConfig, RuntimeUnavailable
from harness.measure.inputs import Inputs
from harness.measure.runtimes import sessions, torched
from harness.measure.runtimes.runtime import Runtime
from harness.measure.runtimes.verdict import Verdict, gate

__all__ = ["Runtime", "RuntimeConfig", "RuntimeUnavailable", "Verdict", "gate", "prepare"]

_BUILDERS = {
    "eager": torched.eager,
    "compile": torched.compiled,
    "cuda_graph": torched.graphed,
    "onnxruntime": sessions.onnxruntime,
    "tensorrt": sessions.tensorrt,
}


def prepare(
    detector: Detector, inputs: Sequence[Inputs], config: RuntimeConfig, device: str
) -> Runtime:
    """Deploy a detector to a runtime, compiled and warm; the original stays as it is.

    The number of torch's threads is built in: set it before.

    Args:
        detector: the original.
        inputs: in float32, anywhere; of one shape, which the runtime is made for, unless eager.
        config: the runtime and its precision.
        device: as torch spells it.

    Raises:
        RuntimeUnavailable: in one line, why it cannot be and what to do.
    """
    if config.precision == "tf32" and torch.device(device).type != "cuda":
        raise RuntimeUnavailable(
            f"tf32 is arithmetic of NVIDIA GPUs, {device} has none of it; use precision fp32"
        )
    if config.runtime != "eager" and len({item.images.shape for item in inputs}) > 1:
        raise RuntimeUnavailable(
            f"runtime {config.runtime} is made for one size, and under detector.input.resize"
            " shortest_edge photographs have sizes of their own; use runtime eager"
        )
    start = time.perf_counter()
    if isinstance(detector, RunsItself):
        runtime = _by_itself(detector, inputs, config, device)
    else:
        _check_outputs(detector, config)
        runtime = _BUILDERS[config.runtime](detector, inputs, config, device)
    runtime.details = (
        config.model_dump()
        | runtime.details
        | {
            "threads": torch.get_num_threads(),
            "build_seconds": time.perf_counter() - start,
        }
    )
    return runtime


def _by_itself(
    detector: Any, inputs: Sequence[Inputs], config: RuntimeConfig, device: str
) -> Runtime:
    """Run a detector by the library that it brings, which is as good as eager torch here."""
    told = detector.runtime()
    asked = (config.precision, config.channels_last)
    if config.runtime not in ("eager", told["runtime"]) or asked != ("fp32", False):
        raise RuntimeUnavailable(
            f"{detector.config.name} is run by {told['runtime']} as its file says; leave"
            " latency.runtime, precision and channels_last alone"
        )
    runtime = torched.eager(detector, inputs, config, device)
    runtime.details = told
    return runtime


def _check_outputs(detector: Detector, config: RuntimeConfig) -> None:
    """Refuse to judge a runtime by outputs that are detections already."""
    if hasattr(detector.postprocess, "inside") and config.runtime != "eager":
        raise RuntimeUnavailable(
            f"{config.runtime}: this detector's NMS is inside its network, so that there are no"
            " logits to compare with eager torch's; use runtime eager"
        )
