"""Make `mmengine_runner.pth`: what mmengine's own runner leaves of a short training of the toy.

Run it from the repository's root in an environment that has mmengine 0.10.7 and torch:

    PYTHONPATH=. python tests/golden/mmengine_runner.py

Beside the weights the file holds what mmengine puts there: the average's copy, the optimiser, the
message hub with its history buffers and numpy scalars, and `meta` with the data set's classes.
`mmengine_runner.json` holds sums of the averaged weights, as mmengine's hook has them in memory.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

from detectors.config import override
from detectors.interface import Target
from tests.toy import TOY

FILE = Path(__file__).with_name("mmengine_runner.pth")
CONFIG = override(TOY, {"num_classes": 3, "width": 2})


class Images(Dataset[dict[str, Any]]):
    """Four images of noise with a box each."""

    metainfo = {"classes": ("bolt", "nut", "washer")}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(index))
        box = torch.tensor([[8.0, 8.0, 24.0 + 4 * index, 40.0]])
        return {"inputs": image, "data_samples": Target(box, torch.tensor([index % 3]))}


class Toy(BaseModel):  # type: ignore[misc]
    """The toy's stages under the names that they have in a detector of ours."""

    def __init__(self) -> None:
        super().__init__()
        toy = CONFIG.build()
        self.backbone, self.neck, self.head = toy.backbone, toy.neck, toy.head
        self.criterion = toy.criterion

    def forward(self, inputs: Any, data_samples: Any, mode: str = "tensor") -> Any:
        """Return the losses."""
        outputs = self.head(self.neck(self.backbone(torch.stack(list(inputs)))))
        return self.criterion(outputs, list(data_samples))


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Keep images and targets in lists."""
    return {name: [row[name] for row in rows] for name in ("inputs", "data_samples")}


def main() -> None:
    """Train two epochs, and copy the last checkpoint."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(
            model=Toy(),
            work_dir=folder,
            train_dataloader={
                "dataset": Images(),
                "batch_size": 2,
                "num_workers": 0,
                "sampler": {"type": "DefaultSampler", "shuffle": True},
                "collate_fn": collate,
            },
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9}},
            train_cfg={"by_epoch": True, "max_epochs": 2},
            param_scheduler={"type": "LinearLR", "start_factor": 0.1, "end": 2},
            default_hooks={"logger": {"type": "LoggerHook", "interval": 1}},
            custom_hooks=[{"type": "EMAHook", "momentum": 0.1}],
            experiment_name="toy",
        )
        runner.train()
        hook = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
        averaged: dict[str, Tensor] = hook.ema_model.module.state_dict()
        sums = {key: float(value.double().sum()) for key, value in averaged.items()}
        FILE.write_bytes(Path(folder, "epoch_2.pth").read_bytes())
    FILE.with_suffix(".json").write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
