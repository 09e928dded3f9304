"""A detector as MLflow takes it: one tensor of pixels in, one tensor of detections out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detectors import weights
from detectors.interface import Detector
from harness.records import Record

COLUMNS = ("x1", "y1", "x2", "y2", "score", "label")
PACKAGES = ("detbench", "torch", "torchvision")


class Served(nn.Module):
    """A detector that normalises its images, and whose postprocessed detections are one tensor.

    `detector` is the one that was trained, for whatever else it is wanted.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector.eval()
        for name in ("mean", "std"):
            value = torch.tensor(getattr(detector.config.input, name), dtype=torch.float32)
            self.register_buffer(name, value.view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Find what is in images.

        Args:
            images: [B, 3, H, W], 0 to 255, resized and with channels in the order that the model's
                metadata name under `input`.

        Returns:
            [B, K, 6], best first: x1, y1, x2, y2 in pixels of the input, score in [0, 1], label.
            K is that of the image with most detections; the others' rows end in zeros.
        """
        height, width = images.shape[-2:]
        sizes = torch.tensor([[height, width]] * len(images), device=images.device)
        found = self.detector.detect((images.float() - self.mean) / self.std, sizes)
        rows = [
            torch.cat([item.boxes, item.scores[:, None], item.labels[:, None].to(item.boxes)], 1)
            for item in found
        ]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def save(record: Record, folder: Path, trusted: Collection[str], place: Path) -> None:
    """Write the weights of a trial as a model of MLflow, with signature and input example.

    Args:
        record: of the trial.
        folder: its own, with weights and their config.
        trusted: detectors that are not built in, whose code may run here.
        place: a new folder.

    Raises:
        WeightsError: the detector is neither built in nor trusted, or the weights do not fit.
    """
    import mlflow.pytorch  # slow to import
    from mlflow.models import ModelSignature  # likewise
    from mlflow.types import Schema, TensorSpec  # likewise

    detector = weights.load(folder, trusted)
    height, width = detector.config.input.largest
    free = -1
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (free, 3, height, width))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (free, free, len(COLUMNS)))]),
    )
    known = inspect.signature(mlflow.pytorch.save_model).parameters  # older versions only pickle
    pickled = {"serialization_format": "pickle"} if "serialization_format" in known else {}
    mlflow.pytorch.save_model(
        Served(detector),
        str(place),
        signature=signature,
        input_example=np.zeros((1, 3, height, width), np.uint8),
        pip_requirements=[f"{name}=={version(name)}" for name in PACKAGES],
        metadata=_metadata(record),
        **pickled,
    )
    for file in place.glob("serving_*.json"):  # three quarters of which are blanks
        text = json.dumps(json.loads(file.read_bytes()), separators=(",", ":"))
        file.write_text(text, encoding="utf-8")


def _metadata(record: Record) -> dict[str, Any]:
    """Say what the numbers that go in and come out mean."""
    of_input = "detector.input."
    return {
        "detector": record.detector,
        "input": {
            path.removeprefix(of_input): value
            for path, value in record.config.items()
            if path.startswith(of_input)
        },
        "output": list(COLUMNS),
        "classes": record.data.get("classes", []),
    }
