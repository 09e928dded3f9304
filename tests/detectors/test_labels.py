"""What the labels of weights mean, and weights whose classes are moved."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import detectors
from detectors import coco
from detectors.config import override
from detectors.interface import DenseOutputs, Detector
from detectors.weights import CONFIG_FILE, WEIGHTS_FILE, WeightsError, fill, load, save
from tests.detectors import golden
from tests.detectors.small import SMALL
from tests.toy import TOY, Toy, ToyConfig, ToyHead

NAMES = ("bolt", "nut", "washer")
TINY = "rtmdet_tiny"


def toy(classes: int = 3) -> Detector:
    return override(TOY, {"num_classes": classes}).build()


def few(state: dict[str, Tensor], classes: int) -> dict[str, Tensor]:
    """Cut RTMDet's class heads."""
    return {
        key: value[:classes] if key.startswith("bbox_head.rtm_cls") else value
        for key, value in state.items()
    }


def test_ours_name_their_classes(tmp_path: Path) -> None:
    folder = save(toy(), tmp_path, "tests.toy:TOY", NAMES)
    for path in (folder, folder / WEIGHTS_FILE):
        found = detectors.class_names(path, TOY)
        assert found == (NAMES, False)
        assert detectors.count_classes(path, TOY) == 3
    assert load(folder, ("tests.toy:TOY",)).config.num_classes == 3


def test_older_folders_of_ours_load_and_name_none(tmp_path: Path) -> None:
    folder = save(toy(), tmp_path, "tests.toy:TOY")
    assert "classes" not in json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    assert load(folder, ("tests.toy:TOY",)).config.num_classes == 3
    assert detectors.class_names(folder, TOY) is None
    assert detectors.count_classes(folder, TOY) == 3


def test_a_damaged_list_of_names_is_refused(tmp_path: Path) -> None:
    folder = save(toy(), tmp_path, "tests.toy:TOY", NAMES)
    described = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    (folder / CONFIG_FILE).write_text(json.dumps(described | {"classes": [1, 2, 3]}), "utf-8")
    with pytest.raises(WeightsError, match="'classes' in config.json is no list of names"):
        detectors.class_names(folder, TOY)


@pytest.mark.parametrize(
    ("meta", "classes", "expected"),
    [
        ({"dataset_meta": {"classes": NAMES}}, 3, (NAMES, False)),
        ({"dataset_meta": {"CLASSES": list(NAMES)}}, 3, (NAMES, False)),
        ({"CLASSES": NAMES}, 3, (NAMES, False)),
        ({"dataset_meta": {"classes": coco.CLASSES}}, 3, None),  # the default, left in place
        ({}, 3, None),
        ({}, 80, (coco.CLASSES, True)),
        ({"dataset_meta": {"classes": [f"c{k}" for k in range(80)]}}, 80,
         (tuple(f"c{k}" for k in range(80)), False)),
    ],
)  # fmt: skip
def test_checkpoints_of_upstream_name_theirs_or_are_of_coco(
    tmp_path: Path, meta: dict[str, Any], classes: int, expected: Any
) -> None:
    state = few(golden.upstream_weights(TINY), classes)
    torch.save({"meta": meta, "state_dict": state}, tmp_path / "upstream.pth")
    config = detectors.resolve(TINY)
    assert detectors.class_names(tmp_path / "upstream.pth", config) == expected
    assert detectors.count_classes(tmp_path / "upstream.pth", config) == classes


def test_files_of_our_own_keys_are_not_taken_for_upstreams(tmp_path: Path) -> None:
    state = detectors.create(TINY, weights=golden.upstream_weights(TINY)).state_dict()
    for name, content in (("bare", state), ("wrapped", {"state_dict": state})):
        torch.save(content, tmp_path / f"{name}.pth")
        assert detectors.class_names(tmp_path / f"{name}.pth", detectors.resolve(TINY)) is None


@pytest.mark.parametrize("told", [{}, {"id2label": {"0": "LABEL_0"}}, {"id2label": {"0": "pin"}}])
def test_files_of_hugging_face_are_named_by_the_config_beside(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    save_file(toy(1).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"model_type": "x", **told}), "utf-8")
    found = detectors.class_names(tmp_path / "model.safetensors", TOY)
    assert found == ((("pin",), False) if "pin" in str(told) else None)


def test_the_table_of_coco_is_that_of_its_annotations(shared: Path) -> None:
    file = shared / "data" / "coco_mini" / "annotations" / "instances_val.json"
    rows = sorted(json.loads(file.read_text("utf-8"))["categories"], key=lambda row: row["id"])
    assert [row["name"] for row in rows] == list(coco.CLASSES)


@pytest.mark.parametrize("name", SMALL)
def test_classes_are_moved_with_all_that_is_theirs(tmp_path: Path, name: str) -> None:
    config = override(detectors.resolve(name), SMALL[name] | {"num_classes": 4})
    torch.manual_seed(0)
    model = config.build().eval()
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not key.endswith("running_var"):
            value += 0.05 * torch.randn(value.shape)
    save(model, tmp_path, name, "abcd")
    images = torch.rand(2, 3, 64, 64)
    turned = config.build()
    fill(turned, tmp_path, labels=(2, 0, 3, 1))
    with torch.no_grad():
        before, after = (each.eval()(images) for each in (model, turned))
    assert (before.scores().std(dim=(0, 1)) > 0).all()
    torch.testing.assert_close(after.scores(), before.scores()[..., [2, 0, 3, 1]])
    torch.testing.assert_close(after.boxes, before.boxes)
    less = override(config, {"num_classes": 2})
    part = less.build()
    fill(part, tmp_path, labels=(3, 0))
    whole = model.state_dict()
    for key, value in part.state_dict().items():
        own = whole[key]
        assert value.shape == own.shape or value.shape[0] == own.shape[0] - 2, key
    if name == "rtdetr_r18":  # the row of what is no class stays behind those of the classes
        key = "head.denoising_embed.weight"
        assert torch.equal(part.state_dict()[key], whole[key][[3, 0, 4]])


class BackgroundFirst(ToyHead):
    """Predicts a background before the classes, and leaves it out."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.predict = nn.Conv2d(config.width, config.num_classes + 5, 1)

    def forward(self, features: list[Tensor]) -> DenseOutputs:
        """Predict without the first column."""
        self.num_classes += 1
        found = super().forward(features)
        self.num_classes -= 1
        return found._replace(logits=found.logits[..., 1:])


@dataclass(frozen=True)
class OtherConfig(ToyConfig):
    """A toy of another head."""

    def build(self) -> Detector:
        """Make the model."""
        model = Toy(self)
        model.head = BackgroundFirst(self)
        return model


def test_a_detector_whose_rows_are_not_its_classes_is_refused(tmp_path: Path) -> None:
    config = OtherConfig(num_classes=3)
    save(config.build(), tmp_path, "tests.detectors.test_labels:OTHER", NAMES)
    with pytest.raises(WeightsError, match="does not keep each in rows of its own"):
        fill(config.build(), tmp_path, labels=(1, 0, 2))
