"""Detectors made ready for timing: deployed, on the device, beside their prepared images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from detectors.interface import STAGES, Detections, Detector, RunsItself
from harness.config.runtime import Name
from harness.measure import runtimes
from harness.measure.inputs import Inputs
from harness.measure.latency import limits
from harness.measure.latency.timer import Clock
from harness.measure.runtimes import Runtime, RuntimeConfig
from harness.measure.runtimes.precision import DTYPES

ItemT = TypeVar("ItemT")
Detect = Callable[[Tensor, Tensor], Any]  # images, sizes: one `Detections` an image


class Subject(NamedTuple):
    """A detector to be timed."""

    detector: Detector
    trained: bool  # whether its scores, and so its time for NMS, mean anything
    macs: float | None = None  # of the deployed network on one image; None where not counted
    runtime: Name | None = None  # that it is run by; None for the one of the settings
    optional: bool = False  # whether it is left out, not refused, where its runtime is unavailable


class Prepared(NamedTuple):
    """A subject that can be called, on inputs of one shape, inside `active()`."""

    detect: Detect  # what is timed as the whole
    inputs: tuple[Inputs, ...]
    trained: bool
    network: Callable[[Tensor], Any] | None = None  # images to outputs; None where not apart
    postprocess: Callable[[Any, Tensor], list[Detections]] | None = None  # outputs, sizes
    stages: tuple[Callable[[Any], Any], ...] = ()  # backbone, neck, head; none where not apart
    candidates: Callable[[Any], Tensor] | None = None  # outputs to boxes before NMS, [B]
    macs: float | None = None  # of the network on one image; None where not counted
    weight_bytes: int | None = None
    in_torch: bool = True  # whether torch's counter sees the memory it takes
    preprocess: Callable[[int], Tensor] | None = None  # makes the images of an input anew
    active: Callable[[], AbstractContextManager[None]] = nullcontext  # switches it is called under
    runtime: Runtime | None = None  # that a detector is run by
    apart: str = ""  # why stages cannot be told apart, where not for the runtime
    inside: str | None = None  # why NMS takes no time of its own; None where it does


class Profile(NamedTuple):
    """What an untimed pass over the inputs shows."""

    details: dict[str, Any]
    memory_bytes: int | None  # weights and the peak above them; None without a counter
    least_bytes: int | None  # that the network has to move at least; None where unknown


def prepare(
    subject: Subject, inputs: Sequence[Inputs], config: RuntimeConfig, device: str
) -> Prepared:
    """Deploy a detector to a runtime; the original stays as it is.

    The number of torch's threads is built in: set it before.

    Args:
        subject: the detector, trained or not.
        inputs: in float32, anywhere; all of one shape.
        config: the runtime and its precision.
        device: as torch spells it.

    Raises:
        RuntimeUnavailable: in one line, why it cannot be and what to do.
    """
    runtime = runtimes.prepare(subject.detector, inputs, config, device)
    deployed, itself = runtime.detector, isinstance(subject.detector, RunsItself)
    told = deployed is not None and deployed.stages == STAGES
    return Prepared(
        runtime.detect,
        runtime.inputs,
        subject.trained,
        network=runtime.network,
        postprocess=runtime.postprocess,
        stages=(deployed.backbone, deployed.neck, deployed.head) if deployed and told else (),
        candidates=runtime.candidates,
        macs=subject.macs,
        weight_bytes=None
        if itself
        else _weight_bytes(subject.detector.deploy(), DTYPES[config.precision]),
        in_torch=not itself and config.runtime not in ("onnxruntime", "tensorrt"),
        active=runtime.active,
        runtime=runtime,
        apart=subject.detector.apart,
        inside=_inside(subject.detector, runtime),
    )


def _inside(detector: Detector, runtime: Runtime) -> str | None:
    """Say why suppression takes no time of its own, and what share it takes; None where it does."""
    where: str | None = getattr(detector.postprocess, "inside", None)
    share = runtime.details.get("suppression_share")
    return where if where is None or share is None else f"{where}, {share:.1%} of its time"


def _weight_bytes(deployed: nn.Module, dtype: torch.dtype) -> int:
    """Return what a network's tensors take, those of real numbers in a type."""
    tensors = chain(deployed.parameters(), deployed.buffers())
    return sum(
        tensor.numel() * (dtype if tensor.is_floating_point() else tensor.dtype).itemsize
        for tensor in tensors
    )


def workload(device: str) -> Prepared:
    """Return the reference workload as a subject, in single precision whatever the others are in.

    Args:
        device: as torch spells it.
    """
    model, images = limits.reference(device)
    inputs = Inputs(images, torch.tensor([images.shape[-2:]], device=device))
    return Prepared(lambda images, sizes: model(images), (inputs,), trained=True)


@torch.inference_mode()
def profile(prepared: Prepared, device: str, clock: Clock, seconds: float) -> Profile:
    """Call a subject on its inputs, untimed: boxes before and after NMS, and memory.

    Args:
        prepared: the subject.
        device: where it runs.
        clock: nanoseconds.
        seconds: after which no further input is taken.
    """
    found: list[int] = []
    candidates: list[int] = []
    memory: int | None = None
    moved: int | None = None
    deadline = clock() + int(seconds * 1e9)
    for inputs in prepared.inputs:
        with prepared.active():
            outputs, detections, peak = _call(prepared, inputs, device)
        found += [len(item.scores) for item in detections]
        if prepared.candidates is not None:
            candidates += [int(count) for count in prepared.candidates(outputs)]
        memory = peak if memory is None or peak is None else max(memory, peak)
        if outputs is not None and prepared.weight_bytes is not None:
            tensors = (inputs.images, *_leaves(outputs))
            moved = prepared.weight_bytes + sum(map(_bytes, tensors))
        if clock() > deadline:
            break
    details: dict[str, Any] = {"detections": distribution(found)}
    if candidates:
        details["candidates"] = distribution(candidates)
    return Profile(details, memory, moved)


def distribution(values: Sequence[int]) -> dict[str, float]:
    """Summarise counts, one an image."""
    return {
        "images": len(values),
        "min": min(values),
        "median": float(np.median(values)),
        "mean": float(np.mean(values)),
        "max": max(values),
    }


def _leaves(outputs: Any) -> list[Tensor]:
    """List the tensors in a network's outputs."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _call(
    prepared: Prepared, inputs: Inputs, device: str
) -> tuple[Any, list[Detections], int | None]:
    """Detect once, and return the outputs if they can be had, and the memory it took on a GPU."""
    counted = prepared.in_torch and torch.device(device).type == "cuda"
    counter = torch.cuda if counted else None
    before = 0
    if counter:
        counter.synchronize(device)
        counter.reset_peak_memory_stats(device)
        before = counter.memory_allocated(device)
    if prepared.network is None or prepared.postprocess is None:
        outputs, detections = None, prepared.detect(*inputs)
    else:
        outputs = prepared.network(inputs.images)
        detections = prepared.postprocess(outputs, inputs.sizes)
    if not counter:
        return outputs, detections, None
    counter.synchronize(device)
    peak = counter.max_memory_allocated(device) - before
    return outputs, detections, peak + (prepared.weight_bytes or 0)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
