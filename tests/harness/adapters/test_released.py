"""Released ONNX files reach the AP that was measured of them without this project.

The figures are those of the README beside the files: of the 171 images of `coco_mini`'s val.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors.config import override
from harness import adapters, data
from harness.adapters.classes import known, matched
from harness.analysis import preparing
from harness.config.data import DataConfig
from harness.data import Split, classes
from harness.data.classes import Choice
from harness.data.coco import take
from harness.measure import complexity
from harness.measure.accuracy.evaluate import evaluate

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

NEAR = 0.003  # of AP
YOLOX = ("yolox_nano", {"input": "yolox", "postprocess.iou_threshold": 0.45})
"""With the threshold of the sample that the file comes with; the family's own is 0.65."""
DEIM: tuple[str, dict[str, Any]] = ("deimv2_hgnetv2_atto_coco", {})
RTMDET = (
    "rtmdet_nano_person",
    {
        "input": "rtmdet",
        "input.size": [320, 320],
        "classes": ["person"],
        "inside.score_threshold": 0.001,
    },
)
PUBLISHED = [(YOLOX, 0.276), (DEIM, 0.254), (RTMDET, 0.364)]


def config_of(shared: Path, named: tuple[str, dict[str, Any]]) -> Any:
    file = shared / "weights" / f"{named[0]}.onnx"
    if not file.is_file():
        pytest.skip(f"no released file at {file}")
    return override(adapters.resolve(f"onnx:{file}"), named[1])


def val(shared: Path, config: Any, images: int | None = None) -> Split:
    """Return images as a model's classes see them."""
    folder = shared / "data" / "coco_mini"
    if not folder.is_dir():
        pytest.skip(f"no photographs at {folder}")
    opened = data.load_split(DataConfig(source=str(folder)), "val")
    split = opened.split if images is None else take(opened.split, np.arange(images))
    told, names = known(config), [category.name for category in opened.categories]
    assert told is not None
    return classes.seen_by(split, matched(told, opened.name, names, Choice(shared=True)))


@pytest.mark.slow
@pytest.mark.parametrize(("named", "wanted"), PUBLISHED)
def test_it_reaches_the_ap_that_was_measured_of_it(
    named: tuple[str, dict[str, Any]], wanted: float, shared: Path
) -> None:
    config = config_of(shared, named)
    found = evaluate(config.build(), val(shared, config), device="cpu", workers=0)
    assert found.metrics["mAP"] == pytest.approx(wanted, abs=NEAR)


@pytest.mark.slow
def test_swapped_channels_of_yolox_are_found(shared: Path) -> None:
    config = config_of(shared, YOLOX)
    split = val(shared, config)
    wrong = override(config, {"input.channels": "rgb"})
    tried = preparing.try_ways(wrong.build(), split, device="cpu")
    assert [item.way for item in tried if item.is_clearly_better] == ["channels in the other order"]
    tried = preparing.try_ways(config.build(), split, device="cpu")
    assert not any(item.is_clearly_better for item in tried)


@pytest.mark.parametrize("named", [item for item, _ in PUBLISHED], ids=lambda item: item[0])
def test_it_finds_what_is_in_the_first_photographs(
    named: tuple[str, dict[str, Any]], shared: Path
) -> None:
    config = config_of(shared, named)
    model = config.build()
    found = evaluate(model, val(shared, config, 4), device="cpu", workers=0)
    assert found.metrics["mAP_50"] > 0.25
    whole = model.deploy()
    images = torch.rand(2, 3, *config.input.size, generator=torch.Generator().manual_seed(0))
    both = whole.detect(images, torch.tensor([config.input.size] * 2))
    alone = [whole.detect(each[None], torch.tensor([config.input.size]))[0] for each in images]
    for one, other in zip(both, alone, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)


def test_operations_are_those_that_were_published(shared: Path) -> None:
    """Of YOLOX-Nano 1.08 GFLOPs and 0.91 million parameters, of DEIMv2-Atto 0.8 and 0.5.

    A multiply-accumulate counts two. Sources: Megvii-BaseDetection/YOLOX@0166887 README.md,
    Intellindust-AI-Lab/DEIMv2@259ed52 README.md.
    """
    for named, flops, params in ((YOLOX, 1.08e9, 0.91e6), (DEIM, 0.8e9, 0.5e6)):
        config = config_of(shared, named)
        counted = complexity.count(config.build(), config.input.size)
        assert counted.metrics["flops"] == pytest.approx(flops, rel=0.06)
        assert counted.metrics["params"] == pytest.approx(params, rel=0.03)
        assert counted.caveats == {}
