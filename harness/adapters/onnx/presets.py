"""How families of detectors want their images: what a file without metadata does not say.

Sources: Megvii-BaseDetection/YOLOX@05b20c8 yolox/data/data_augment.py `preproc` (BGR, 0 to 255, at
the top left, 114) and `ValTransform` (its `legacy` models: RGB, ImageNet's mean and deviation);
open-mmlab/mmdetection v3.3.0 configs/rtmdet/rtmdet_l_8xb32-300e_coco.py (mean, deviation, 114);
lyuwenyu/RT-DETR@068dfde rtdetrv2_pytorch/configs/rtdetrv2/include/dataloader.yml and
Peterande/D-FINE@1062403 configs/dfine/include/dataloader.yml (stretched, 0 to 1); roboflow/rf-detr
rfdetr/datasets/coco.py `make_coco_transforms_square_div_64` (stretched, ImageNet's mean and
deviation). Exports of ultralytics: as runtimes of others feed them, RGB, 0 to 1, padded with 114.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNSAID, FROM_FILE, OWN = "unsaid", "file", "own"
_PLAIN = {"input.mean": [0.0, 0.0, 0.0], "input.pad_value": 114}
_TO_ONE = {**_PLAIN, "input.std": [255.0, 255.0, 255.0], "input.channels": "rgb"}
_STRETCHED = {**_TO_ONE, "input.resize": "stretch"}
_PADDED = {**_TO_ONE, "input.resize": "letterbox"}
_IMAGENET = {"input.mean": [123.675, 116.28, 103.53], "input.std": [58.395, 57.12, 57.375]}
_KNOBS: dict[str, dict[str, Any]] = {
    "yolox": {**_PADDED, "input.std": [1.0, 1.0, 1.0], "input.channels": "bgr"},
    "yolox_legacy": {**_PADDED, **_IMAGENET},
    "rtmdet": {
        **_PADDED,
        "input.mean": [103.53, 116.28, 123.675],
        "input.std": [57.375, 57.12, 58.395],
        "input.channels": "bgr",
    },
    **dict.fromkeys(("yolov5", "yolov7", "yolov8"), _PADDED),
    **dict.fromkeys(("rtdetr", "dfine", "deim"), _STRETCHED),
    "rfdetr": {**_STRETCHED, **_IMAGENET},
    OWN: {},
}
INPUTS: Mapping[str, Mapping[str, Any]] = {
    name: {**knobs, "prepared_as": name} for name, knobs in _KNOBS.items()
}
"""By name, the knobs that say how images are prepared; `own` leaves that to knobs by themselves."""
