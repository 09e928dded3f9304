"""One detection a query, of its surest class."""

from __future__ import annotations

from torch import Tensor, nn

from detectors.interface import Detections, Outputs, as_float32
from harness.adapters.transformers.best_config import BestClassConfig


class BestClass(nn.Module):
    """Keep the surest class of each query, and the surest queries.

    Source: transformers 5.23 models/detr/image_processing_detr.py,
    `post_process_object_detection` (Apache-2.0), equal in numbers
    (tests/harness/adapters/test_transformers.py).
    Differs: boxes are clipped to the image, best ones come first.
    """

    def __init__(self, config: BestClassConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        """Find objects.

        Args:
            outputs: of a detector whose queries do not repeat each other.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.

        Returns:
            One `Detections` per image, boxes clipped to `sizes`; those without area stay.
        """
        outputs = as_float32(outputs)
        best, labels = outputs.scores().max(-1)  # [B, Q]
        best, order = best.topk(min(self.config.max_detections, best.shape[1]))
        limits = sizes.flip(1).repeat(1, 2)[:, None].to(outputs.boxes)  # [B, 1, 4] w, h, w, h
        boxes = outputs.boxes.gather(1, order[:, :, None].expand(-1, -1, 4))
        boxes = boxes.clamp(min=0).minimum(limits)
        counts = [len(each) for each in best]
        if self.config.score_threshold:
            counts = (best > self.config.score_threshold).sum(1).tolist()
        parts = zip(boxes, best, labels.gather(1, order), counts, strict=True)
        return [Detections(box[:n], score[:n], label[:n]) for box, score, label, n in parts]
