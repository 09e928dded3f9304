"""Hashes of trials, trainings and protocols, of studies that come along and of every detector.

They are made without the code's fingerprints, which change with every change of the code: what is
left follows from configurations and data alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import detectors
from harness import data
from harness.config import library
from harness.config.data import DataConfig
from harness.data import DataSet
from harness.study import Specs, expand, load, single
from harness.study.code import Fingerprints

HERE = Path(__file__).parent
FILE = HERE / "hashes.json"
ALL = "measure=[complexity, latency, accuracy]"
TOY, TINY, R18 = "tests.toy:TOY", "rtmdet_tiny", "rtdetr_r18"
OF_DETECTORS: list[tuple[str, list[str]]] = [
    (TOY, [ALL, "detector.assigner.type=Inside"]),
    (TOY, [ALL, "detector.width=4", "detector.postprocess.iou_threshold=0.5"]),
    (TINY, ["measure=[complexity]"]),
    (TINY, ["measure=[latency]"]),
    (TINY, ["measure=[accuracy]", "data.max_train_images=4", "data.filter_empty=false"]),
    (TINY, [ALL, "latency.precision=bf16", "latency.runtime=onnxruntime", "latency.threads=2"]),
    (TINY, [ALL, "detector.assigner={type: SimOTA, topk: 10}", "detector.head.sharing=separate"]),
    (TINY, [ALL, "detector.assigner.center_prior=hard", "detector.num_classes=9"]),
    (TINY, [ALL, "detector.input.size=[320, 320]", "detector.input.train_size=[256, 256]"]),
    (TINY, [ALL, "detector.postprocess.score_threshold=0.3", "recipe.workers=1"]),
    (TINY, [ALL, "recipe=short", "recipe.lr=0.001", "recipe.augment.flip=0.0"]),
    (TINY, [ALL, "recipe=rtmdet_tiny", "recipe.augment.mosaic.cached=false"]),
    (R18, [ALL, "recipe=rtdetr", "detector.head.num_queries=100", "seeds=[3]"]),
    (R18, [ALL, "detector.head.layers_used=1", "detector.backbone.freeze_norm=false"]),
]
OF_SEARCHES: list[tuple[str, dict[str, Any]]] = [
    ("search/shapes", {"detector.assigner.type": "SimOTA", "recipe.lr": 0.01}),
    ("search/shapes", {"detector.assigner.center_prior": "hard", "detector.neck.out_channels": 16}),
    ("search/rtmdet_s", {}),
    ("search/rtdetr_shapes", {}),
]
FREEZING = ["detector.backbone.freeze_norm=true", "detector.backbone.frozen_stages=1"]
FROM_NOTHING: list[tuple[str, list[str], list[str]]] = [
    *(
        (f"rtdetr_{backbone}", [ALL], FREEZING)
        for backbone in ("r50_m", "r50", "r101", "hgnetv2_l", "hgnetv2_x")
    ),
    (
        R18,
        [ALL, "recipe=rtdetr", "detector.head.num_queries=100", "seeds=[3]"],
        ["recipe.backbone_lr=0.1"],
    ),
]
"""What was frozen or slow from the start, and no longer is where nobody trained it: the case, and
what has to be set for the result of before."""
OF_CHANGED_FILES = {
    "rtdetr/query_selection": [ALL],
    "quickstart": [
        "detector.backbone.width_mult=0.25",
        *("detector.backbone.kernel_size=5", "detector.neck.kernel_size=5"),
        *("data.shapes.train_images=640", "data.shapes.val_images=200", "data.shapes.classes=4"),
        *("data.shapes.objects=[4, 8]", "data.shapes.sides=[0.15, 0.45]"),
        *("data.shapes.clutter=0.3", "data.shapes.noise=6.0"),
        *("recipe.epochs=8", "recipe.lr=0.004", "recipe.betas=[0.9, 0.999]"),
        "recipe.channels_last=false",
        *("latency.seconds=4.0", "latency.warmup_seconds=3.0", "latency.together_seconds=4.0"),
    ],
}
"""Studies whose files say something else now, and what they said before."""


def compute() -> list[dict[str, Any]]:
    """Return one row a case: what it is, and trial, training and protocol of its trials."""
    searches = [name for name, _ in OF_SEARCHES]
    studies = [name for name in library.names() if name not in searches]
    alone = [(name, [ALL]) for name in detectors.names()]
    with mock.patch.object(Fingerprints, "of", return_value={}):
        return [
            *(_row(name, [], _study(name)) for name in studies),
            *(_row(name, [over], _search(name, over)) for name, over in OF_SEARCHES),
            *(_row(name, sets, _single(name, sets)) for name, sets in [*alone, *OF_DETECTORS]),
        ]


def _row(name: str, changes: list[Any], specs: list[Any]) -> dict[str, Any]:
    found = [[spec.trial, spec.training, spec.protocol_hash] for spec in specs]
    return {"of": name, "changes": changes, "hashes": found}


def of_single(name: str, sets: list[str]) -> dict[str, Any]:
    """Return the row of one detector, trained alone."""
    with mock.patch.object(Fingerprints, "of", return_value={}):
        return _row(name, sets, _single(name, sets))


def of_study(name: str, sets: list[str]) -> dict[str, Any]:
    """Return the row of a study with some of its keys replaced."""
    with mock.patch.object(Fingerprints, "of", return_value={}):
        return _row(name, [], _study(name, sets))


def _study(name: str, sets: Sequence[str] = ()) -> list[Any]:
    return expand(load(name, sets=sets), _opened)


def _search(name: str, overrides: dict[str, Any]) -> list[Any]:
    return [Specs(load(name), _opened)(overrides, seed=0)]


def _single(name: str, sets: list[str]) -> list[Any]:
    study = single(name, "smoke", "shapes", sets)
    return [Specs(study, _opened)({}, study.seeds[0])]


def _opened(config: DataConfig) -> DataSet:
    """Open the committed data set in place of any other."""
    return data.load(DataConfig(source=str(HERE / "data")))


def write(file: Path = FILE) -> None:
    """Write the list, one case a line."""
    rows = ",\n ".join(json.dumps(row) for row in compute())
    file.write_text(f"[\n {rows}\n]\n")


if __name__ == "__main__":
    write()
