"""Where RT-DETR's released weights come from."""

from __future__ import annotations

from detectors.release import Release

REPOSITORY = "https://github.com/lyuwenyu/RT-DETR/tree/068dfde/rtdetr_pytorch"
RELEASES = "https://github.com/lyuwenyu/storage/releases/download/v0.1"
HUB = "https://huggingface.co/PekingU"


def _official(file: str) -> Release:
    return Release(f"{RELEASES}/{file}_from_paddle.pth")


def _hub(model: str, sha256: str) -> Release:
    return Release(f"{HUB}/{model}/resolve/main/model.safetensors", sha256)


CHECKPOINTS = {
    "rtdetr_r18": (
        _official("rtdetr_r18vd_dec3_6x_coco"),
        _hub("rtdetr_r18vd", "fe87a5a30f5daf298d10794c7682a63b6107986f97d6a770ba948d89e4340093"),
    ),
    "rtdetr_r34": (
        _official("rtdetr_r34vd_dec4_6x_coco"),
        _hub("rtdetr_r34vd", "a56f8da8a466f7080bd82dbe43f31a7ed913785facd346179c54a2747eda0a94"),
    ),
    "rtdetr_r50_m": (_official("rtdetr_r50vd_m_6x_coco"),),
    "rtdetr_r50": (
        _official("rtdetr_r50vd_6x_coco"),
        _hub("rtdetr_r50vd", "5263d5521eff3e356f6cd8a371fd5dfb891725beda5f713674f79669115cdc64"),
    ),
    "rtdetr_r101": (
        _official("rtdetr_r101vd_6x_coco"),
        _hub("rtdetr_r101vd", "6e84ee96c6e65b7de0f29980e5cf6c89c9e497a752d7a3dc53f84d5ea7224285"),
    ),
}
"""Trained on COCO train2017; by upstream, then converted for Hugging Face. Apache-2.0.

HGNetv2's were released for Paddle alone.
"""

OBJECTS365_CHECKPOINTS = {
    "rtdetr_r18": (
        _official("rtdetr_r18vd_5x_coco_objects365"),
        _hub(
            "rtdetr_r18vd_coco_o365",
            "eadade7a507b87cabe5d6a75b935dbd9fc59b1b843f36f7e3b24eafc856c0774",
        ),
    ),
    "rtdetr_r50": (
        _official("rtdetr_r50vd_2x_coco_objects365"),
        _hub(
            "rtdetr_r50vd_coco_o365",
            "59abc0b00bea0cc8f7e9ce053c29189a348605bb337123609a7fe02e4ea830a0",
        ),
    ),
    "rtdetr_r101": (
        _official("rtdetr_r101vd_2x_coco_objects365"),
        _hub(
            "rtdetr_r101vd_coco_o365",
            "48681f4087d220273d86b052001e19b738d1d1e54f02dfe98d71f4e7957458c5",
        ),
    ),
}
"""Trained on Objects365, then on COCO train2017."""

_R50 = _official("ResNet50_vd_ssld_v2_pretrained")
BACKBONES = {
    "rtdetr_r18": _official("ResNet18_vd_pretrained"),
    "rtdetr_r34": _official("ResNet34_vd_pretrained"),
    "rtdetr_r50_m": _R50,
    "rtdetr_r50": _R50,
    "rtdetr_r101": _official("ResNet101_vd_ssld_pretrained"),
    "rtdetr_hgnetv2_l": _official("PPHGNetV2_L_ssld_pretrained"),
    "rtdetr_hgnetv2_x": _official("PPHGNetV2_X_ssld_pretrained"),
}
"""Backbones trained on ImageNet, those with `ssld` in their names by distillation; no hash is
published.

Source: lyuwenyu/RT-DETR@068dfde rtdetrv2_pytorch/src/nn/backbone/presnet.py, `donwload_url`, and
hgnetv2.py, `arch_configs` (Apache-2.0).
"""
