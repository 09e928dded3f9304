"""Torchvision's detectors: equal to themselves; their weights by file or by name."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models.detection import _utils
from torchvision.models.detection.image_list import ImageList

import detectors
from detectors import WeightsError
from detectors.config import KnobError, flatten, of_result, override
from detectors.interface import build_without_memory
from harness import adapters, released
from harness.adapters.torchvision.config import ARCHITECTURES
from harness.measure.complexity import products
from harness.study.start import known_classes
from tests.harness.adapters.photographs import Prepared, assert_same, prepared, spread

SMALL = {"input.size": [96, 150], "num_classes": 7}
FOUR: dict[str, dict[str, Any]] = {
    "fcos_resnet50_fpn": {**SMALL, "postprocess.max_candidates": 40},
    "retinanet_resnet50_fpn_v2": {**SMALL, "postprocess.max_candidates": 60},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {**SMALL, "inside.proposals": 80},
    "ssdlite320_mobilenet_v3_large": {"num_classes": 7, "postprocess.max_candidates": 30},
}


class Given(nn.Module):
    """Takes the place of a model's transform: the photograph is prepared."""

    def __init__(self, photograph: Prepared) -> None:
        super().__init__()
        self.photograph = photograph

    def forward(self, images: Any, targets: Any = None) -> tuple[ImageList, None]:
        return ImageList(self.photograph.images, [self.photograph.size]), None

    def postprocess(self, result: Any, sizes: Any, original_sizes: Any) -> Any:
        return result


def made(name: str, changes: dict[str, Any], seed: int = 0) -> Any:
    config = override(adapters.resolve(f"torchvision:{name}"), changes)
    torch.manual_seed(seed)
    detector: Any = config.build().eval()
    spread(detector, ("cls_logits", "cls_score", "bbox_ctrness", "classification_head"), by=3)
    return detector


@torch.no_grad()
def theirs(detector: Any, photograph: Prepared) -> dict[str, Tensor]:
    """Let the library itself do all that follows its transform."""
    model, config = detector.network.model, detector.config
    model.transform = Given(photograph)
    if config.family != "two_stage":
        limits = config.postprocess
        model.score_thresh, model.nms_thresh = limits.score_threshold, limits.iou_threshold
        model.topk_candidates = limits.max_candidates
        model.detections_per_img = limits.max_detections
    found: dict[str, Tensor] = model([torch.zeros(3, *photograph.size)])[0]
    return found


@pytest.mark.parametrize("name", FOUR)
def test_detections_are_those_of_the_library(name: str) -> None:
    detector = made(name, FOUR[name])
    for photograph in prepared(detector.config.input):
        expected = theirs(detector, photograph)
        (found,) = detector.detect(photograph.images, torch.tensor([photograph.size]))
        assert len(found.scores) > 10
        assert_same(found, expected["boxes"], expected["scores"], expected["labels"])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_set_is_what_the_library_sets(name: str) -> None:
    config = adapters.resolve(f"torchvision:{name}")
    assert override(config, flatten(config)) == config
    assert "source" not in of_result(config)
    model: Any = build_without_memory(config)
    weights = get_model_weights(name)["COCO_V1"]
    assert sum(item.numel() for item in model.parameters()) == weights.meta["num_params"]
    library, ours = model.network.model, config.postprocess
    transform = library.transform
    size = transform.fixed_size or (transform.min_size[-1], transform.max_size)
    assert config.input.size == tuple(size)
    assert config.input.varies is (transform.fixed_size is None)
    assert config.input.pad_to == transform.size_divisible or not config.input.varies
    assert [value / 255 for value in config.input.mean] == pytest.approx(transform.image_mean)
    assert [value / 255 for value in config.input.std] == pytest.approx(transform.image_std)
    if config.family == "two_stage":
        heads, inside = library.roi_heads, config.inside
        assert (heads.score_thresh, heads.nms_thresh) == (inside.score_threshold, 0.5)
        assert heads.detections_per_img == inside.max_detections == ours.max_detections
    else:
        assert library.score_thresh == ours.score_threshold
        assert library.nms_thresh == ours.iou_threshold
        assert library.topk_candidates == ours.max_candidates
        assert library.detections_per_img == ours.max_detections


def test_weights_of_a_file_are_loaded_and_its_labels_are_named(tmp_path: Path) -> None:
    config = adapters.resolve("torchvision:ssdlite320_mobilenet_v3_large")
    few = override(config, {"num_classes": 7})
    state = build_of(few).network.model.state_dict()
    file = tmp_path / "theirs.pth"
    torch.save(state, file)
    assert detectors.count_classes(file, config) == 7
    loaded: Any = detectors.create(few, weights=file)
    assert all(torch.equal(loaded.state_dict()[f"network.model.{k}"], v) for k, v in state.items())
    assert known_classes(str(file), config).names is None
    whole = build_without_memory(config)
    empty = {key: torch.zeros(item.shape) for key, item in whole.state_dict().items()}
    torch.save({key.removeprefix("network.model."): item for key, item in empty.items()}, file)
    known = known_classes(str(file), few)
    assert known.num_labels == 91
    assert known.names is not None
    assert (known.names[0], known.names[1], known.names[90]) == (
        "__background__", "person", "toothbrush"
    )  # fmt: skip


def build_of(config: Any) -> Any:
    torch.manual_seed(0)
    return config.build()


def test_released_weights_come_by_their_address_and_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = adapters.resolve("torchvision:ssdlite320_mobilenet_v3_large")
    release = config.releases["coco"]
    assert release == get_release("ssdlite320_mobilenet_v3_large")
    content = bytes(range(256)) * 4  # no text, which is no file of weights
    name = release.url.rpartition("/")[2]
    served = tmp_path / "mirror" / "127.0.0.1_9" / "models"
    served.mkdir(parents=True)
    (served / name).write_bytes(content)
    monkeypatch.setenv("DETBENCH_MIRROR", (tmp_path / "mirror").as_uri())
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "cache"))
    closed = release._replace(url=f"http://127.0.0.1:9/models/{name}")
    patch_release(monkeypatch, closed)
    with pytest.raises(WeightsError, match="is not the released file"):
        released.find(config, "coco", fetch=True)
    right = closed._replace(sha256=hashlib.sha256(content).hexdigest()[:8])
    patch_release(monkeypatch, right)
    found = released.find(config, "coco", fetch=True)
    assert found.path is not None
    assert found.path.read_bytes() == content
    with pytest.raises(WeightsError, match="none are released for torchvision:.*there is coco"):
        released.find(config, "imagenet", fetch=False)


def get_release(name: str) -> detectors.Release:
    url = get_model_weights(name)["COCO_V1"].url
    return detectors.Release(url, url.rpartition("-")[2].removesuffix(".pth"))


def patch_release(patch: pytest.MonkeyPatch, release: detectors.Release) -> None:
    from harness.adapters.torchvision.config import TorchvisionConfig  # patched, so named late

    patch.setattr(TorchvisionConfig, "releases", property(lambda _: {"coco": release}))


def test_norms_of_released_weights_are_frozen_as_the_library_freezes_them() -> None:
    frozen = {name: item.norm_eps for name, item in ARCHITECTURES.items()}
    assert frozen["fasterrcnn_resnet50_fpn"] == frozen["retinanet_resnet50_fpn"] == 0.0
    model: Any = build_without_memory(adapters.resolve("torchvision:fasterrcnn_resnet50_fpn"))
    norm = model.network.model.backbone.body.bn1
    _utils.overwrite_eps(model, 0.0)
    assert norm.eps == 0.0
    other: Any = build_without_memory(adapters.resolve("torchvision:fasterrcnn_resnet50_fpn_v2"))
    assert isinstance(other.network.model.backbone.body.bn1, nn.BatchNorm2d)


def test_names_that_there_are_not_are_refused() -> None:
    with pytest.raises(KnobError, match="no such detector; did you mean fcos_resnet50_fpn"):
        adapters.resolve("torchvision:fcos_resnet50")
    config = adapters.resolve("torchvision:fcos_resnet50_fpn")
    with pytest.raises(KnobError, match="label 0 is the background"):
        override(config, {"num_classes": 1})


@pytest.mark.parametrize(
    "name",
    [
        "fcos_resnet50_fpn",
        *(pytest.param(name, marks=pytest.mark.slow) for name in (
            "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2",
            "ssdlite320_mobilenet_v3_large", "ssd300_vgg16")),
    ],
)  # fmt: skip
def test_operations_are_those_that_the_library_publishes(name: str) -> None:
    """It counted on a photograph as wide as it is high: its shortest edge is both sides."""
    config = adapters.resolve(f"torchvision:{name}")
    side = config.input.size[0]
    counted = products.count(config.build(), config.input.padded((side, side)) if
                             config.input.varies else (side, side))  # fmt: skip
    published = get_model_weights(config.model)["COCO_V1"].meta["_ops"]  # in billions of products
    assert counted["macs"] / 1e9 == pytest.approx(published, abs=5.1e-4)


def test_a_second_stage_says_what_its_operations_depend_on() -> None:
    config = adapters.resolve("torchvision:fasterrcnn_resnet50_fpn")
    assert "follow the number of proposals, at most 1000 of an image" in config.notes()[0]
    assert adapters.resolve("torchvision:fcos_resnet50_fpn").notes() == ()
