"""Hugging Face's RT-DETR, small and random, and ours with its weights predict the same."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import detectors
from detectors.interface import Detector
from tests.golden.detweights import deterministic_state_dict
from tests.golden.golden_inputs import align_rows, make_image


@cache
def transformers() -> Any:
    import transformers as library  # takes seconds, also of a process that has none of these tests

    return library


CLASSES, QUERIES, LAYERS = 7, 20, 3
LEVELS = ["stage2", "stage3", "stage4"]
KNOBS = {
    "backbone.width_mult": 0.25,
    "neck.hidden_dim": 32,
    "neck.num_layers": 2,
    "neck.num_heads": 4,
    "neck.feedforward_dim": 40,
    "head.hidden_dim": 48,
    "head.num_layers": LAYERS,
    "head.num_heads": 6,
    "head.num_points": 3,
    "head.feedforward_dim": 56,
    "head.num_queries": QUERIES,
    "num_classes": CLASSES,
}


class Pair(NamedTuple):
    theirs: Any
    name: str  # of our detector
    knobs: dict[str, Any]

    def ours(self, weights: Any) -> Detector:
        return detectors.create(self.name, self.knobs, weights=weights).eval()


def peer(backbone: Any, channels: list[int], expansion: float) -> Any:
    config = transformers().RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=channels,
        encoder_hidden_dim=32,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=40,
        hidden_expansion=expansion,
        decoder_in_channels=[32, 32, 32],
        d_model=48,
        decoder_layers=LAYERS,
        decoder_attention_heads=6,
        decoder_n_points=3,
        decoder_ffn_dim=56,
        num_queries=QUERIES,
        num_labels=CLASSES,
    )
    model = transformers().RTDetrForObjectDetection(config).eval()
    model.load_state_dict(deterministic_state_dict(model.state_dict()))
    return model


def basic() -> Pair:
    backbone = transformers().RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 2, 1, 2],
        layer_type="basic",
        out_features=LEVELS,
    )
    knobs = {"backbone.blocks": (1, 2, 1, 2), "neck.expand_ratio": 0.5}
    return Pair(peer(backbone, [32, 64, 128], 0.5), "rtdetr_r18", KNOBS | knobs)


def bottleneck() -> Pair:
    backbone = transformers().RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 1, 2, 1],
        layer_type="bottleneck",
        out_features=LEVELS,
    )
    knobs = {"backbone.blocks": (2, 1, 2, 1), "neck.expand_ratio": 1.0}
    return Pair(peer(backbone, [128, 256, 512], 1.0), "rtdetr_r50", KNOBS | knobs)


def hgnetv2() -> Pair:
    backbone = transformers().HGNetV2Config(
        stem_channels=[3, 8, 12],
        stage_in_channels=[12, 32, 128, 256],
        stage_mid_channels=[12, 24, 48, 96],
        stage_out_channels=[32, 128, 256, 512],
        hidden_sizes=[32, 128, 256, 512],
        stage_num_blocks=[1, 1, 2, 1],
        out_features=LEVELS,
    )
    knobs = {"backbone.blocks": (1, 1, 2, 1), "neck.expand_ratio": 1.0}
    return Pair(peer(backbone, [128, 256, 512], 1.0), "rtdetr_hgnetv2_l", KNOBS | knobs)


@pytest.fixture(scope="module", params=[basic, bottleneck, hgnetv2], ids=lambda make: make.__name__)
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.param()
    return found


@pytest.mark.parametrize("size", [(128, 128), (128, 192), (224, 96)])
def test_parity_of_predictions(pair: Pair, size: tuple[int, int]) -> None:
    images = torch.from_numpy(make_image(1, 2, *size, "unit"))
    ours = pair.ours(pair.theirs.state_dict())
    with torch.inference_mode():
        theirs = pair.theirs(images)
        outputs = ours.head.train_outputs(ours.neck(ours.backbone(images)), None)
        final = ours(images)
    for image in range(len(images)):
        expected = {
            "logits": theirs.intermediate_logits[image],
            "boxes": theirs.intermediate_reference_points[image],
        }
        joined = [
            boxes.transpose(0, 1).flatten(1)
            for boxes in (expected["boxes"], outputs.layers.boxes[:, image])
        ]
        order = align_rows(*joined)
        for kind, values in expected.items():
            found = getattr(outputs.layers, kind)[:, image, order]
            np.testing.assert_allclose(found.numpy(), values.numpy(), rtol=0, atol=1e-4)
        selected = outputs.encoder.boxes[0, image, order]
        np.testing.assert_allclose(
            selected.numpy(), theirs.enc_topk_bboxes[image].numpy(), atol=1e-5
        )
        np.testing.assert_allclose(
            final.logits[image, order].numpy(), theirs.logits[image].numpy(), rtol=0, atol=1e-4
        )


def test_saved_file_loads(pair: Pair, tmp_path: Path) -> None:
    pair.theirs.save_pretrained(tmp_path)
    saved = pair.ours(tmp_path / "model.safetensors").state_dict()
    expected = pair.ours(pair.theirs.state_dict()).state_dict()
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[key], expected[key]) for key in expected)
