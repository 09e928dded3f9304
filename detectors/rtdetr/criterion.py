"""What RT-DETR minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detectors.boxes import iou, shares_to_boxes
from detectors.interface import as_float32
from detectors.losses import average_over_processes, giou_loss, varifocal_loss
from detectors.matching_config import HungarianMatcher
from detectors.queries import Matches, Objects, Predictions
from detectors.rtdetr.config import RTDETRCriterionConfig
from detectors.rtdetr.queries import Noise, TrainingOutputs


class RTDETRCriterion(nn.Module):
    """Varifocal loss of all queries, and distance and GIoU loss of those matched with an object.

    The layers of the decoder and the encoder's selection are matched each on its own; denoising
    queries know their objects. All losses are divided by the number of objects, averaged over
    processes, those of denoising by as many for each group.

    Source: RT-DETR, arXiv:2304.08069v3, sec. 4.3 and eq. 3; lyuwenyu/RT-DETR@068dfde
    rtdetr_pytorch/src/zoo/rtdetr/rtdetr_criterion.py (Apache-2.0), equal in numbers
    (tests/detectors/test_rtdetr_criterion.py).
    Differs: the layers' losses are computed together, and the encoder's are named so.
    """

    def __init__(self, config: RTDETRCriterionConfig, matcher: HungarianMatcher) -> None:
        super().__init__()
        self.config = config
        self.matcher = matcher

    def forward(
        self, outputs: TrainingOutputs, objects: Objects, noise: Noise | None
    ) -> dict[str, Tensor]:
        """Return the weighted losses of a batch; waits for the device once.

        Args:
            outputs: of every layer for B images.
            objects: of the same images.
            noise: that the denoising queries of `outputs` started from; none if there are none.

        Returns:
            `loss_cls`, `loss_bbox` and `loss_giou` of the last layer, the same with suffixes
            `_aux0`.. of those before, `_enc` of the encoder, `_dn0`.. of every layer's denoising
            queries.
        """
        outputs = as_float32(outputs)
        selected = zip(outputs.layers, outputs.encoder, strict=True)
        predictions = Predictions(*(torch.cat(pair) for pair in selected))
        certain = 1 if self.config.query_selection == "vanilla" else 0
        sums = self._sums(predictions, objects, self.matcher(predictions, objects), certain)
        count = average_over_processes(objects.boxes.new_full((), len(objects.labels)))
        count = count.clamp(min=1)
        aux = [f"_aux{i}" for i in range(len(outputs.layers.logits) - 1)]
        losses = _by_layer(sums, count, [*aux, "", "_enc"])
        if noise is not None and outputs.denoising is not None:
            layers, images = outputs.denoising.logits.shape[:2]
            known = _in_every_layer(noise.positives, layers, images)
            sums = self._sums(outputs.denoising, objects, known)
            losses |= _by_layer(sums, count * noise.groups, [f"_dn{i}" for i in range(layers)])
        return losses

    def _sums(
        self, predictions: Predictions, objects: Objects, matches: Matches, certain: int = 0
    ) -> dict[str, Tensor]:
        """Return the weighted sums of the losses.

        Args:
            predictions: of L layers for B images.
            objects: of the same images.
            matches: as many of each layer, layer after layer; `image` counts over L * B.
            certain: number of last layers that have to give their objects a score of 1 instead of
                the overlap.

        Returns:
            [L] by name.
        """
        layers = len(predictions.logits)
        logits, boxes = (each.flatten(0, 1) for each in predictions)  # [L * B, Q, ...]
        chosen, wanted = boxes[matches.image, matches.query], objects.boxes[matches.object]
        corners = shares_to_boxes(chosen, objects.size)
        wanted_corners = shares_to_boxes(wanted, objects.size)
        quality = iou(corners.detach(), wanted_corners)
        quality[len(quality) // layers * (layers - certain) :] = 1
        where = (matches.image, matches.query, objects.labels[matches.object])
        terms = {
            "loss_cls": self.config.cls_weight * self._cls_losses(logits, where, quality),
            "loss_bbox": self.config.bbox_weight * (chosen - wanted).abs(),
            "loss_giou": self.config.giou_weight * giou_loss(corners, wanted_corners),
        }
        return {name: _sum_layers(term, layers) for name, term in terms.items()}

    def _cls_losses(
        self, logits: Tensor, where: tuple[Tensor, Tensor, Tensor], quality: Tensor
    ) -> Tensor:
        """Return the varifocal loss of logits [L * B, Q, C], given where it wants which quality."""
        qualities = torch.zeros_like(logits).index_put(where, quality)
        yes = torch.ones_like(quality, dtype=torch.bool)
        labelled = torch.zeros_like(logits, dtype=torch.bool).index_put(where, yes)
        return varifocal_loss(logits, qualities, labelled, self.config.alpha, self.config.gamma)


def _sum_layers(values: Tensor, layers: int) -> Tensor:
    """Return the sum of each layer's values, which stand one after the other, [L]."""
    return values.reshape(layers, values.numel() // layers).sum(dim=1)


def _by_layer(sums: dict[str, Tensor], count: Tensor, suffixes: list[str]) -> dict[str, Tensor]:
    """Divide sums [L] by a number and name each layer's with its suffix."""
    return {
        name + suffix: value
        for name, values in sums.items()
        for suffix, value in zip(suffixes, values / count, strict=True)
    }


def _in_every_layer(matches: Matches, layers: int, images: int) -> Matches:
    """Repeat one layer's matches for all layers, each of so many images."""
    first = torch.arange(layers, device=matches.image.device) * images
    image = (matches.image + first[:, None]).flatten()
    return Matches(image, matches.query.repeat(layers), matches.object.repeat(layers))
