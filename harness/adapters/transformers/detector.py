"""Detectors of transformers as networks of one stage; nothing is downloaded, no code of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from detectors.config import KnobError
from detectors.interface import Detections, QueryOutputs
from harness.adapters.model import ForeignDetector, ScoredOutputs
from harness.adapters.transformers.config import TransformersConfig


class TransformersDetector(ForeignDetector):
    """A detector that transformers builds, with the weights of its folder or random ones."""

    config: TransformersConfig

    def __init__(self, config: TransformersConfig) -> None:
        super().__init__()
        self.config = config
        lacking = config.lacks()
        if lacking is not None:
            raise KnobError(f"{config.name}: {lacking}")
        self.network = Network(build(config), config)
        self.postprocess = config.postprocess.build()

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        """Find objects; a network that can be told what is padding is told."""
        found: list[Detections] = self.postprocess(self.network(images, sizes), sizes)
        return found


class Network(nn.Module):
    """Images to predictions."""

    def __init__(self, model: nn.Module, config: TransformersConfig) -> None:
        super().__init__()
        self.model = model
        self.softmax, self.masked = config.scores == "softmax", config.family.masked

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> QueryOutputs | ScoredOutputs:
        """Predict.

        Args:
            images: [B, 3, H, W].
            sizes: [B, 2] (h, w) of the real image inside the input, pixels; None for all of it.
        """
        height, width = images.shape[2:]
        whole = images.new_tensor([[height, width]]).expand(len(images), 2)
        told: dict[str, Tensor] = {}
        if self.masked and sizes is not None and len(images) > 1:
            whole = sizes.to(images)
            rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
            inside = (rows[:, None] < whole[:, :1, None]) & (columns < whole[:, 1:, None])
            told = {"pixel_mask": inside.long()}
        found: Any = self.model(pixel_values=images, **told)
        scale = whole.flip(1).repeat(1, 2)[:, None]  # [B, 1, 4] w, h, w, h
        centers, sides = found.pred_boxes.split(2, dim=-1)  # shares of the image
        boxes = torch.cat([centers - sides / 2, centers + sides / 2], dim=-1) * scale
        if self.softmax:
            return ScoredOutputs(found.logits.softmax(-1)[..., :-1], boxes)
        return QueryOutputs(found.logits, boxes)


def build(config: TransformersConfig) -> nn.Module:
    """Build the library's own model.

    Raises:
        KnobError: the library cannot, or the folder lacks some of its weights.
    """
    import transformers  # an extra, and slow to import

    name = config.family.name
    settings_class = getattr(transformers, f"{name}Config")
    model_class = getattr(transformers, f"{name}ForObjectDetection")
    with _quiet():
        if not config.sha256:
            settings = settings_class(num_labels=config.num_classes, **config.family.settings)
            _download_no_backbone(settings)
            model: nn.Module = model_class(settings)
            return model
        try:
            settings = settings_class.from_pretrained(config.source, local_files_only=True)
            _download_no_backbone(settings)
            model, told = model_class.from_pretrained(
                config.source, config=settings, local_files_only=True, use_safetensors=True,
                dtype=torch.float32, output_loading_info=True,
            )  # fmt: skip
        except Exception as error:  # the library names no class for each of the ways to fail
            line = (str(error).strip().splitlines() or [""])[0]
            raise KnobError(f"{config.name}: the library cannot load it: {line}") from error
    if lacking := sorted(told["missing_keys"]):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise KnobError(f"{config.name}: its weights lack {lacking[0]}{more}; save it once more")
    return model


def _download_no_backbone(settings: Any) -> None:
    """Leave a backbone's weights to the folder, or to chance."""
    parts: list[Any] = [settings, getattr(settings, "backbone_config", None)]
    for part in parts:
        if getattr(part, "use_pretrained_backbone", False):
            part.use_pretrained_backbone = False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from printing while it loads."""
    from transformers.utils import logging as library  # an extra, and slow to import

    logging: Any = library  # it has no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
