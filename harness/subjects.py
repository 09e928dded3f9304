"""Detectors made ready for timing: deployed, on the device, beside their prepared images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detectors.interface import Detections, Detector, InputConfig, as_float32
from harness.timer import Clock

if TYPE_CHECKING:
    from harness.data import Split

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Subject(NamedTuple):
    """A detector to be timed."""

    detector: Detector
    trained: bool  # whether its scores, and so its time for NMS, mean anything


class Inputs(NamedTuple):
    """What one timed call gets, prepared and on the device."""

    images: Tensor  # [B, 3, H, W], normalised
    sizes: Tensor  # int64 [B, 2] (h, w) of the real image inside the input, pixels


class Prepared(NamedTuple):
    """A subject that can be called."""

    detector: Detector
    inputs: tuple[Inputs, ...]
    trained: bool


class Profile(NamedTuple):
    """What an untimed pass over the inputs shows."""

    details: dict[str, Any]
    memory_bytes: int | None  # weights and the peak above them; None without a counter


class InFloat32(nn.Module):
    """Postprocessing that receives the outputs in float32, whatever the network computes in."""

    def __init__(self, postprocess: nn.Module) -> None:
        super().__init__()
        self.postprocess = postprocess
        ask: Callable[[Any], Tensor] | None = getattr(postprocess, "candidates", None)
        if ask is not None:
            self.candidates = lambda outputs: ask(as_float32(outputs))

    def forward(self, outputs: Any, sizes: Tensor) -> list[Detections]:
        """Postprocess; outputs are the detector's, sizes [B, 2] (h, w) in pixels."""
        result: list[Detections] = self.postprocess(as_float32(outputs), sizes)
        return result


def prepare(subject: Subject, inputs: Sequence[Inputs], device: str, precision: str) -> Prepared:
    """Deploy a detector to a device at a precision; the original stays as it is.

    Args:
        subject: the detector, trained or not.
        inputs: in float32, anywhere.
        device: as torch spells it.
        precision: a key of `DTYPES`.
    """
    dtype = DTYPES[precision]
    detector = subject.detector.deploy().to(device=device, dtype=dtype)
    if precision != "fp32":
        detector.postprocess = InFloat32(detector.postprocess)
    moved = tuple(
        Inputs(item.images.to(device=device, dtype=dtype), item.sizes.to(device)) for item in inputs
    )
    return Prepared(detector, moved, subject.trained)


def read_inputs(
    split: Split, config: InputConfig, *, images: int, batch_size: int
) -> tuple[Inputs, ...]:
    """Read the first images of a split as batches of one size; a last short one is filled up.

    Args:
        split: where the images come from.
        config: how the detector wants them.
        images: how many to read at most.
        batch_size: images a batch.
    """
    from harness.data import normalize, val_loader

    pixels: list[Tensor] = []
    sizes: list[Tensor] = []
    for batch in val_loader(split, config, batch_size=1, workers=0):
        pixels.append(batch.images)
        sizes.append(batch.sizes)
        if len(pixels) == images:
            break
    starts = range(0, len(pixels), batch_size)
    return tuple(
        Inputs(
            normalize(torch.cat(_take(pixels, start, batch_size)), config),
            torch.cat(_take(sizes, start, batch_size)),
        )
        for start in starts
    )


def _take(items: Sequence[Tensor], start: int, count: int) -> list[Tensor]:
    """Take items in a row, going on from the beginning after the last."""
    return [items[(start + offset) % len(items)] for offset in range(count)]


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
    deadline = clock() + int(seconds * 1e9)
    for inputs in prepared.inputs:
        outputs, detections, peak = _call(prepared.detector, inputs, device)
        found += [len(item.scores) for item in detections]
        candidates += _candidates(prepared.detector.postprocess, outputs)
        memory = peak if memory is None or peak is None else max(memory, peak)
        if clock() > deadline:
            break
    details = {"detections": distribution(found)}
    if candidates:
        details["candidates"] = distribution(candidates)
    return Profile(details, memory)


def distribution(values: Sequence[int]) -> dict[str, float]:
    """Summarise counts, one an image."""
    return {
        "images": len(values),
        "min": min(values),
        "median": float(np.median(values)),
        "mean": float(np.mean(values)),
        "max": max(values),
    }


def _candidates(postprocess: nn.Module, outputs: Any) -> list[int]:
    """Count the boxes of each image that would enter NMS; nothing where it cannot tell."""
    ask: Callable[[Any], Tensor] | None = getattr(postprocess, "candidates", None)
    return [] if ask is None else [int(count) for count in ask(outputs)]


def _call(
    detector: Detector, inputs: Inputs, device: str
) -> tuple[Any, list[Detections], int | None]:
    """Detect once, and return the memory that took on a GPU."""
    counter = torch.cuda if torch.device(device).type == "cuda" else None
    before = 0
    if counter:
        counter.synchronize(device)
        counter.reset_peak_memory_stats(device)
        before = counter.memory_allocated(device)
    outputs = detector(inputs.images)
    detections = detector.postprocess(outputs, inputs.sizes)
    if not counter:
        return outputs, detections, None
    counter.synchronize(device)
    peak = counter.max_memory_allocated(device) - before
    return outputs, detections, peak + sum(map(_bytes, _tensors(detector)))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
