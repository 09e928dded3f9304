"""The contract every detector keeps: what goes in, what comes out, and the four stages between."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from detectors import coco
from detectors.contract import (
    BACKGROUND,
    IGNORED,
    STAGES,
    InputConfig,
    Tuning,
    WeightsError,
    kind_of,
)

__all__ = [
    "BACKGROUND",
    "IGNORED",
    "STAGES",
    "Assigner",
    "Assignment",
    "DenseOutputs",
    "Detections",
    "Detector",
    "DetectorConfig",
    "InputConfig",
    "Outputs",
    "QueryOutputs",
    "RunsItself",
    "SelectsQueries",
    "Target",
    "Tuning",
    "WeightsError",
    "as_float32",
    "build_without_memory",
    "fuse",
    "kind_of",
]


class Target(NamedTuple):
    """The objects of one image."""

    boxes: Tensor  # [M, 4] xyxy, input pixels
    labels: Tensor  # [M] int64


class Detections(NamedTuple):
    """What a detector found in one image, best first."""

    boxes: Tensor  # [K, 4] xyxy, input pixels
    scores: Tensor  # [K] in [0, 1]
    labels: Tensor  # [K] int64


class Assignment(NamedTuple):
    """Which object each prediction of one image has to find."""

    gt_index: Tensor  # [N] int64, or -1 = BACKGROUND, or -2 = IGNORED
    quality: Tensor  # [N] IoU of the prediction with that object, 0 where it has none


class Outputs(Protocol):
    """What `forward` returns: a NamedTuple that starts with these two fields."""

    @property
    def logits(self) -> Tensor:
        """[B, N, C], before sigmoid."""

    @property
    def boxes(self) -> Tensor:
        """[B, N, 4] xyxy, input pixels, not clipped."""

    def scores(self) -> Tensor:
        """[B, N, C] in [0, 1]."""


class DenseOutputs(NamedTuple):
    """Predictions of a dense head; levels fine to coarse, each row-major."""

    logits: Tensor  # [B, N, C], before sigmoid
    boxes: Tensor  # [B, N, 4] xyxy, input pixels, not clipped
    points: Tensor  # [N, 2] (x, y), input pixels
    strides: Tensor  # [N], input pixels

    def scores(self) -> Tensor:
        """Return the class scores, [B, N, C] in [0, 1]."""
        return self.logits.sigmoid()


class QueryOutputs(NamedTuple):
    """Predictions of a decoder's queries, without an order."""

    logits: Tensor  # [B, Q, C], before sigmoid
    boxes: Tensor  # [B, Q, 4] xyxy, input pixels, not clipped

    def scores(self) -> Tensor:
        """Return the class scores, [B, Q, C] in [0, 1]."""
        return self.logits.sigmoid()


class Assigner(Protocol):
    """Chooses, for a whole batch, the predictions that are to find each object."""

    def __call__(
        self,
        logits: Tensor,
        boxes: Tensor,
        points: Tensor,
        strides: Tensor,
        targets: list[Target],
    ) -> list[Assignment]:
        """Assign predictions to objects.

        Args:
            logits: [B, N, C], before sigmoid.
            boxes: [B, N, 4] xyxy, input pixels.
            points: [N, 2] (x, y), input pixels.
            strides: [N], input pixels.
            targets: one per image.

        Returns:
            One assignment per image.
        """


class DetectorConfig(Protocol):
    """A frozen dataclass that describes one detector and builds it.

    The hash of a result contains which class it is, see `kind_of`.
    """

    size_divisor: ClassVar[int]  # height and width of an input are multiples of it

    @property
    def num_classes(self) -> int:
        """Number of object classes."""

    @property
    def input(self) -> InputConfig:
        """What the detector's input looks like."""

    def build(self) -> Detector:
        """Make the model, with freshly initialised weights."""


class Detector(nn.Module):
    """Four stages and a criterion.

    A subclass sets `config`, the four modules named in `STAGES`, and `criterion`, a module called
    as `criterion(outputs, targets)` that returns `{name: weighted scalar}`; one that needs more
    than `forward` returns has its own `losses`.
    """

    stages: ClassVar[tuple[str, ...]] = STAGES
    """Those of `STAGES` that can be told apart; `apart` says why others cannot."""
    apart: ClassVar[str] = ""
    config: Any
    backbone: nn.Module
    neck: nn.Module
    head: nn.Module
    postprocess: nn.Module
    criterion: nn.Module | None

    def forward(self, images: Tensor) -> Any:
        """Predict, without a threshold.

        Args:
            images: [B, 3, H, W], normalised as `config.input` says.

        Returns:
            A NamedTuple that satisfies `Outputs`.
        """
        return self.head(self.neck(self.backbone(images)))

    def losses(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Compare predictions with the objects; losses are computed in float32.

        Args:
            images: [B, 3, H, W], normalised as `config.input` says.
            targets: one per image.

        Returns:
            Weighted scalars by name; their sum is what training minimises.

        Raises:
            RuntimeError: the model came from `deploy()` and has no criterion.
        """
        criterion = self.require_criterion()
        outputs = self(images)
        with torch.autocast(images.device.type, enabled=False):
            losses: dict[str, Tensor] = criterion(as_float32(outputs), targets)
        return losses

    def require_criterion(self) -> nn.Module:
        """Return the criterion.

        Raises:
            RuntimeError: the model came from `deploy()` and has none.
        """
        if self.criterion is None:
            raise RuntimeError("a deployed detector has no criterion; train the original instead")
        return self.criterion

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        """Find objects.

        Args:
            images: [B, 3, H, W], normalised as `config.input` says.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.

        Returns:
            One `Detections` per image, boxes clipped to `sizes`.
        """
        found: list[Detections] = self.postprocess(self(images), sizes)
        return found

    def translate(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state dict with this detector's own keys.

        Args:
            content: a state dict with our keys or upstream's, which the subclass tells apart; what
                a file wraps around it is gone. Without an upstream there is nothing to translate.
        """
        return content

    def exported_convolutions(self) -> list[str]:
        """Return the names of the convolutions in the order in which upstream's graph runs them.

        Raises:
            WeightsError: no exported graph of this detector is known.
        """
        raise WeightsError(
            f"no exported graph of a {type(self).__name__} is known; take its .pth or .safetensors"
        )

    def upstream_classes(self, count: int | None) -> tuple[str, ...] | None:
        """Return what so many labels under upstream's keys mean, where the file does not say it.

        80 are COCO's, in the order of their ids.
        """
        return coco.CLASSES if count == len(coco.CLASSES) else None

    def class_tensors(self) -> dict[str, int]:
        """Return the tensors whose shape follows the number of classes: key to dimension."""
        return {key: dim for key, (dim, _) in self.class_rows().items()}

    def class_rows(self) -> dict[str, tuple[int, int]]:
        """Return the tensors whose shape follows the number of classes: key to dimension and step.

        They are found by building the detector, without memory, for one class more; the step is by
        how many rows they grow. There are none where the number of classes is no knob.
        """
        try:
            config = replace(self.config, num_classes=self.config.num_classes + 1)
        except (TypeError, ValueError):
            return {}
        more = build_without_memory(config).state_dict()
        found = {}
        for key, tensor in self.state_dict().items():
            sides = zip(tensor.shape, more[key].shape if key in more else (), strict=False)
            grown = [dim for dim, (before, after) in enumerate(sides) if before != after]
            if grown:
                found[key] = (grown[0], more[key].shape[grown[0]] - tensor.shape[grown[0]])
        return found

    def deploy(self) -> Detector:
        """Return a fused copy in eval mode without criterion; the original stays as it is."""
        criterion, self.criterion = self.criterion, None
        try:
            model = copy.deepcopy(self).eval()
        finally:
            self.criterion = criterion
        fuse(model)
        return model.requires_grad_(False)


@runtime_checkable
class SelectsQueries(Protocol):
    """A detector whose encoder's most promising features become the queries of its decoder."""

    def selected(self, images: Tensor) -> Outputs:
        """Return what the encoder predicts of the features that become queries.

        Args:
            images: [B, 3, H, W], normalised as `config.input` says.

        Returns:
            A NamedTuple that satisfies `Outputs`, a prediction for each selected feature.
        """


@runtime_checkable
class RunsItself(Protocol):
    """A detector whose network is an ONNX graph, no module of torch, and is run by its library."""

    def runtime(self) -> dict[str, Any]:
        """Return the library and how it runs: `runtime`, its name, and its version."""

    def graph(self, size: tuple[int, int]) -> Any:
        """Return the network as an ONNX model for one image.

        Args:
            size: height and width of the input, pixels.
        """


def build_without_memory(config: DetectorConfig) -> Detector:
    """Build a detector for its keys and shapes alone; random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return config.build()
        except (NotImplementedError, RuntimeError):  # one that reads its weights while it is built
            return config.build()


def as_float32(outputs: Any) -> Any:
    """Return the NamedTuple, and those inside it, with floating-point tensors in float32."""
    return type(outputs)(*map(_as_float32, outputs))


def _as_float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return as_float32(value) if hasattr(value, "_fields") else value


def fuse(module: nn.Module) -> None:
    """Replace every submodule that has `fuse()` by what that method returns, in place."""
    for name, child in module.named_children():
        fused = getattr(child, "fuse", None)
        if callable(fused):
            setattr(module, name, fused())
        else:
            fuse(child)
