"""Runtimes: the ways to run a detector's network, behind one interface."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from detectors.interface import Detector
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
    runtime = _BUILDERS[config.runtime](detector, inputs, config, device)
    runtime.details |= {
        **config.model_dump(),
        "threads": torch.get_num_threads(),
        "build_seconds": time.perf_counter() - start,
    }
    return runtime
