"""Detectors made ready for timing: deployed, on the device, beside their prepared images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from detectors.interface import Detections, Detector, InputConfig, as_float32
from harness.machine import limits
from harness.timer import Clock

if TYPE_CHECKING:
    from harness.data import Split

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

ItemT = TypeVar("ItemT")
Detect = Callable[[Tensor, Tensor], Any]  # images, sizes: one `Detections` an image


class Subject(NamedTuple):
    """A detector to be timed."""

    detector: Detector
    trained: bool  # whether its scores, and so its time for NMS, mean anything
    macs: float | None = None  # of the deployed network on one image; None where not counted


class Inputs(NamedTuple):
    """What one timed call gets, prepared and on the device."""

    images: Tensor  # [B, 3, H, W], normalised
    sizes: Tensor  # int64 [B, 2] (h, w) of the real image inside the input, pixels


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


class Profile(NamedTuple):
    """What an untimed pass over the inputs shows."""

    details: dict[str, Any]
    memory_bytes: int | None  # weights and the peak above them; None without a counter
    least_bytes: int | None  # that the network has to move at least; None where unknown


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
    return of_stages(detector, moved, subject)


def of_stages(detector: Detector, inputs: tuple[Inputs, ...], subject: Subject) -> Prepared:
    """Return a deployed detector as it is called eagerly, stage by stage.

    Args:
        detector: on its device, at its precision.
        inputs: likewise.
        subject: what it was made from.
    """
    return Prepared(
        detector.detect,
        inputs,
        subject.trained,
        network=detector,
        postprocess=detector.postprocess,
        stages=(detector.backbone, detector.neck, detector.head),
        candidates=getattr(detector.postprocess, "candidates", None),
        macs=subject.macs,
        weight_bytes=sum(map(_bytes, _tensors(detector))),
    )


def workload(device: str) -> Prepared:
    """Return the reference workload as a subject, in single precision whatever the others are in.

    Args:
        device: as torch spells it.
    """
    model, images = limits.reference(device)
    inputs = Inputs(images, torch.tensor([images.shape[-2:]], device=device))
    return Prepared(lambda images, sizes: model(images), (inputs,), trained=True)


class Preprocess:
    """Makes the images of a subject from decoded photographs: resize, pad, copy, normalise.

    Args:
        split: where the photographs come from; they are decoded here, once.
        config: how the detector wants them.
        images: how many of them at most, as in `read_inputs`.
        like: the subject's inputs.
    """

    def __init__(
        self, split: Split, config: InputConfig, images: int, like: Sequence[Inputs]
    ) -> None:
        read = [split.read(index) for index in range(min(images, len(split)))]
        batch = len(like[0].images)
        self._photographs = [_take(read, index * batch, batch) for index in range(len(like))]
        self._config, self._device = config, like[0].images.device
        self._dtype = like[0].images.dtype

    def __call__(self, index: int) -> Tensor:
        """Return the images of an input, [B, 3, H, W] on the device.

        Args:
            index: of the input.
        """
        from harness.data.resize import fitted, normalize, place, resize

        config = self._config
        pixels = [
            place(resize(image, fitted(image.shape[:2], config)), config)
            for image in self._photographs[index]
        ]
        return normalize(torch.stack(pixels).to(self._device), config).to(self._dtype)


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


def _take(items: Sequence[ItemT], start: int, count: int) -> list[ItemT]:
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


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
