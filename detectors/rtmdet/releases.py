"""Where RTMDet's released weights come from."""

from __future__ import annotations

from detectors.release import Release

REPOSITORY = "https://github.com/open-mmlab/mmdetection/tree/v3.3.0/configs/rtmdet"
BASE_URL = "https://download.openmmlab.com/mmdetection/v3.0/rtmdet"


def _checkpoint(size: str, date: str, sha256: str) -> Release:
    run = f"rtmdet_{size}_8xb32-300e_coco"
    return Release(f"{BASE_URL}/{run}/{run}_{date}-{sha256}.pth", sha256)


def _backbone(file: str, sha256: str) -> Release:
    return Release(f"{BASE_URL}/cspnext_rsb_pretrain/cspnext-{file}-{sha256}.pth", sha256)


CHECKPOINTS = {
    "rtmdet_tiny": _checkpoint("tiny", "20220902_112414", "78e30dcc"),
    "rtmdet_s": _checkpoint("s", "20220905_161602", "387a891e"),
    "rtmdet_m": _checkpoint("m", "20220719_112220", "229f527c"),
    "rtmdet_l": _checkpoint("l", "20220719_112030", "5a0be7c4"),
    "rtmdet_x": _checkpoint("x", "20220715_230555", "cc79b9ae"),
}
"""Trained on COCO train2017 for 300 epochs; Apache-2.0. Upstream writes the first eight digits of
the hash into a file's name."""

PERSON_CHECKPOINTS = {
    "rtmdet_nano": Release(
        "https://download.openmmlab.com/mmpose/v1/projects/rtmpose/"
        "rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e.pth",
        "05d8511e",
    )
}
"""Trained on the persons of COCO and Objects365 for 100 epochs; Apache-2.0. It has one class.

Source: open-mmlab/mmpose projects/rtmpose/README.md @04153220.
"""

BACKBONES = {
    "rtmdet_tiny": _backbone("tiny_imagenet_600e", "3a2dd350"),
    "rtmdet_s": _backbone("s_imagenet_600e", "ea671761"),
    "rtmdet_m": _backbone("m_8xb256-rsb-a1-600e_in1k", "ecb3bbd9"),
    "rtmdet_l": _backbone("l_8xb256-rsb-a1-600e_in1k", "6a760974"),
    "rtmdet_x": _backbone("x_8xb256-rsb-a1-600e_in1k", "b3f78edd"),
}
"""Backbones trained on ImageNet for 600 epochs; upstream's -m, -l and -x start without them.

Source: open-mmlab/mmdetection configs/rtmdet/classification/README.md @4d839862 (Apache-2.0).
"""
