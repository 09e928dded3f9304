"""Detectors of transformers: what comes out is what the library's own processors find."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from detectors.config import KnobError, flatten, of_result, override
from detectors.interface import build_without_memory
from harness import adapters
from harness.adapters.transformers.config import PROCESSOR
from harness.adapters.transformers.families import FAMILIES
from harness.data.resize import normalize, place, resize
from harness.measure.complexity import products
from tests.harness.adapters.photographs import assert_same, photographs, prepared, spread

library: Any = pytest.importorskip("transformers", reason="needs detbench[transformers]")

WIDTH, CLASSES = 32, 5
SPREAD = ("class", "bbox", "enc_score", "query", "tokens", "position", "decoder", "vit")
RESNET = {
    "embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}  # fmt: skip
DETR = {
    "d_model": WIDTH, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "num_queries": 20,
}  # fmt: skip


def settings(family: str) -> Any:
    """Return a small architecture."""
    name = FAMILIES[family].name
    make = getattr(library, f"{name}Config")
    labels = {"id2label": {label: f"class {label}" for label in range(CLASSES)}}
    if family in ("detr", "deformable_detr"):
        backbone = library.ResNetConfig(**RESNET, out_features=["stage2", "stage3", "stage4"])
        if family == "detr":
            backbone = library.ResNetConfig(**RESNET, out_features=["stage4"])
        return make(backbone_config=backbone, **DETR, **labels, auxiliary_loss=False)
    if family == "rt_detr":
        backbone = library.RTDetrResNetConfig(**RESNET, out_features=["stage2", "stage3", "stage4"])
        return make(
            backbone_config=backbone, encoder_in_channels=[16, 16, 32],
            encoder_hidden_dim=WIDTH, decoder_in_channels=[WIDTH] * 3, d_model=WIDTH,
            encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=4,
            decoder_attention_heads=4, decoder_layers=2, num_queries=20, **labels,
        )  # fmt: skip
    return make(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        num_detection_tokens=20, image_size=[64, 96], **labels,
    )  # fmt: skip


PROCESSORS: dict[str, dict[str, Any]] = {
    "detr": {"size": {"shortest_edge": 64, "longest_edge": 96}},
    "deformable_detr": {"size": {"shortest_edge": 64, "longest_edge": 96}},
    "rt_detr": {"size": {"height": 64, "width": 96}},
    "yolos": {"size": {"height": 64, "width": 96}},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save one model of each of four families, small, with seeded random weights."""
    found = {}
    for family, changes in PROCESSORS.items():
        folder = found[family] = tmp_path_factory.mktemp(family)
        torch.manual_seed(0)
        model = getattr(library, f"{FAMILIES[family].name}ForObjectDetection")(settings(family))
        spread(model, SPREAD, by=20 if family == "detr" else 5)
        model.save_pretrained(folder)
        processor(family)(**changes).save_pretrained(folder)
    return found


def processor(family: str) -> Any:
    return getattr(library, f"{FAMILIES[family].name}ImageProcessor")


def expected(family: str, folder: Path, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Let the library load, run and read its own model; boxes clipped, best ones first."""
    model = getattr(library, f"{FAMILIES[family].name}ForObjectDetection").from_pretrained(folder)
    sizes = torch.tensor([images.shape[2:]])
    with torch.no_grad():
        outputs = model.eval()(pixel_values=images)
    read = processor(family).from_pretrained(folder).post_process_object_detection
    (found,) = read(outputs, threshold=0.0, target_sizes=sizes)
    order = found["scores"].argsort(descending=True, stable=True)
    limits = sizes.flip(1).repeat(1, 2).float()
    boxes = found["boxes"].clamp(min=0).minimum(limits)
    return {
        "boxes": boxes[order],
        "scores": found["scores"][order],
        "labels": found["labels"][order],
    }


@pytest.mark.parametrize("family", PROCESSORS)
def test_detections_are_those_of_the_library(family: str, folders: dict[str, Path]) -> None:
    config = adapters.resolve(f"transformers:{folders[family]}")
    assert config.classes == tuple(f"class {label}" for label in range(CLASSES))
    assert config.brings_weights
    assert config.prepared_as == PROCESSOR
    detector = config.build().eval()
    for photograph in prepared(config.input):
        want = expected(family, folders[family], photograph.images)
        (found,) = detector.detect(photograph.images, torch.tensor([photograph.size]))
        kept = slice(len(found.scores))
        assert len(found.scores) >= 20
        assert found.scores.std() > 1e-3
        assert_same(found, want["boxes"][kept], want["scores"][kept], want["labels"][kept])


@pytest.mark.parametrize("family", PROCESSORS)
def test_images_are_prepared_as_the_folder_says(family: str, folders: dict[str, Path]) -> None:
    config = adapters.resolve(f"transformers:{folders[family]}")
    theirs = processor(family).from_pretrained(folders[family])
    for pixels, ours in zip(photographs(), prepared(config.input), strict=True):
        found = theirs(images=pixels[..., ::-1].copy(), return_tensors="pt")["pixel_values"]
        assert found.shape == ours.images.shape
        level = 1 / torch.tensor(config.input.std).view(3, 1, 1)  # one grey level
        assert ((found - ours.images).abs() <= 1.01 * level).all()


@pytest.mark.parametrize("family", ["detr", "deformable_detr"])
def test_padding_in_a_batch_is_told_to_a_network_that_can_be_told(
    family: str, folders: dict[str, Path]
) -> None:
    config = adapters.resolve(f"transformers:{folders[family]}")
    detector = config.build().eval()
    pixels = [resize(item, size, "bilinear_antialias") for item, size in zip(
        photographs(), ((64, 48), (48, 64)), strict=True)]  # fmt: skip
    batch = torch.stack([place(item, config.input, (64, 64)) for item in pixels])
    images = normalize(batch, config.input)
    sizes = torch.tensor([[64, 48], [48, 64]])
    mask = torch.zeros(2, 64, 64, dtype=torch.int64)
    mask[0, :, :48], mask[1, :48] = 1, 1
    with torch.no_grad():
        outputs = detector.network.model(pixel_values=images, pixel_mask=mask)
        found = detector.network(images, sizes)
    scale = torch.tensor([[48, 64, 48, 64], [64, 48, 64, 48]])[:, None]
    center, side = outputs.pred_boxes.split(2, -1)
    boxes = torch.cat([center - side / 2, center + side / 2], -1) * scale
    torch.testing.assert_close(found.boxes, boxes)
    assert not torch.equal(found.boxes, detector.network(images).boxes)


def test_a_folder_is_known_by_its_content(folders: dict[str, Path], tmp_path: Path) -> None:
    first = adapters.resolve(f"transformers:{folders['rt_detr']}")
    copied = shutil.copytree(folders["rt_detr"], tmp_path / "copied")
    second = adapters.resolve(f"transformers:{copied}")
    assert override(first, flatten(first)) == first
    assert first.source != second.source
    assert of_result(first) == of_result(second)
    told = json.loads((copied / PROCESSOR).read_text())
    (copied / PROCESSOR).write_text(json.dumps({**told, "size": {"height": 96, "width": 64}}))
    third = adapters.resolve(f"transformers:{copied}")
    assert third.sha256 != first.sha256
    assert third.input.size == (96, 64)
    (copied / PROCESSOR).unlink()
    bare = adapters.resolve(f"transformers:{copied}")
    assert bare.input == FAMILIES["rt_detr"].input
    assert "as the family rt_detr wants them" in bare.notes()[0]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another model": ({"config.json": {"model_type": "bert"}}, "model_type 'bert', which is no"),
    "no labels": ({"config.json": {"model_type": "detr"}}, "id2label in config.json does not"),
    "another size": ({PROCESSOR: {"size": {"max_height": 3}}}, "says size {'max_height': 3}"),
    "nearest pixels": ({PROCESSOR: {"resample": 0}}, "says resample 0"),
    "no resizing": ({PROCESSOR: {"do_resize": False}}, "do_resize False"),
    "a list": ({PROCESSOR: [1]}, "no JSON object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_says_what_is_not_done_is_refused(
    case: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    changes, words = REFUSED[case]
    folder = shutil.copytree(folders["rt_detr"], tmp_path / "copied")
    for name, told in changes.items():
        before = json.loads((folder / name).read_text()) if name == PROCESSOR else {}
        new = {**before, **told} if isinstance(told, dict) else told
        (folder / name).write_text(json.dumps(new))
    with pytest.raises(KnobError) as error:
        adapters.resolve(f"transformers:{folder}")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_other_folders_are_refused_in_a_line(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, words in {
        "rt_dert": "no such architecture; did you mean rt_detr",
        str(tmp_path): "no config.json there; name a folder that save_pretrained wrote",
    }.items():
        with pytest.raises(KnobError, match=words):
            adapters.resolve(f"transformers:{name}")
    folder = shutil.copytree(folders["rt_detr"], tmp_path / "copied")
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(KnobError, match="the library cannot load it"):
        adapters.resolve(f"transformers:{folder}").build()
    (folder / "model.safetensors").unlink()
    with pytest.raises(KnobError, match="no weights in .safetensors"):
        adapters.resolve(f"transformers:{folder}")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_is_one_of_the_library(family: str) -> None:
    config, known = adapters.resolve(f"transformers:{family}"), FAMILIES[family]
    assert override(config, flatten(config)) == config
    assert not config.brings_weights
    made = getattr(library, f"{known.name}Config")()
    assert made.model_type == family
    assert hasattr(library, f"{known.name}ForObjectDetection")
    backbone = getattr(made, "backbone_config", None)
    assert getattr(backbone, "model_type", None) == "timm_backbone" or not known.timm
    if family in ("lw_detr", "rf_detr") or not hasattr(library, f"{known.name}ImageProcessor"):
        return
    theirs, ours = getattr(library, f"{known.name}ImageProcessor")().to_dict(), config.input
    assert list(theirs["size"].values()) in (list(ours.size), list(ours.size)[::-1])
    assert ours.varies is ("shortest_edge" in theirs["size"])
    mean = theirs["image_mean"] if theirs["do_normalize"] else [0.0] * 3
    assert [value / 255 for value in ours.mean] == pytest.approx(mean)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without = set()
    monkeypatch.setattr(
        "harness.adapters.transformers.config.find_spec",
        lambda name: None if name in without else object(),
    )
    config = adapters.resolve("transformers:detr")
    assert config.lacks() is None
    without.add("timm")
    assert "needs timm, which is not installed; install it with pip" in str(config.lacks())
    assert adapters.resolve("transformers:rt_detr").lacks() is None
    without.add("transformers")
    assert "needs transformers" in str(adapters.resolve("transformers:rt_detr").lacks())
    with pytest.raises(KnobError, match="needs transformers"):
        config.build()


def test_an_architecture_alone_has_random_weights_and_as_many_labels_as_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library.RTDetrForObjectDetection, "from_pretrained", None)
    config = override(adapters.resolve("transformers:rt_detr"), {"num_classes": 3})
    model: Any = build_without_memory(config)
    assert model.network.model.config.num_labels == 3
    assert sum(item.numel() for item in model.parameters()) > 4e7
    assert not getattr(model.network.model.config.backbone_config, "use_pretrained_backbone", False)


def test_operations_are_counted_with_attention(folders: dict[str, Path]) -> None:
    config = adapters.resolve(f"transformers:{folders['yolos']}")
    detector = config.build()
    counted = products.count(detector, config.input.largest)
    own = sum(item.numel() for item in detector.network.model.parameters())
    assert counted["params"] == own
    tokens = (64 // 16) * (96 // 16) + 20 + 1
    attention = 2 * 2 * tokens * tokens * WIDTH  # two layers, scores and sums over values
    linear = 2 * tokens * (4 * WIDTH * WIDTH + 2 * WIDTH * 32)
    patches = (64 // 16) * (96 // 16) * 3 * 16 * 16 * WIDTH
    heads = 20 * (2 * 2 * WIDTH * WIDTH + WIDTH * (CLASSES + 1) + WIDTH * 4)
    assert counted["macs"] == attention + linear + patches + heads
