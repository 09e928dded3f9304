"""RTMDet-s's stage 1 as mmdetection itself runs it, where it is installed: the reference.

The transforms need nothing of mmcv that is compiled, so the light one is enough, in an environment
of its own: `pip install --no-deps mmdet==3.3.0 mmcv-lite==2.1.0 mmengine==0.10.7`, and addict,
yapf, termcolor, rich, terminaltables, shapely.

Source: github.com/open-mmlab/mmdetection @00e07a9c configs/rtmdet/rtmdet_s_8xb32-300e_coco.py.
"""

import pickle
import sys
from collections.abc import Callable, Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np

from harness.data import Split

SIZE, GRAY = (640, 640), (114, 114, 114)


class _Hollow(ModuleType):
    """A module in which every name is a class without content."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Compiled(MetaPathFinder, Loader):
    """Stands in for mmcv's compiled operators, imported by mmdetection and not called here."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        wanted = name == "mmcv.ops" or name.startswith("mmcv.ops.")
        return ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it empty."""


def steps() -> list[Callable[[dict[str, Any]], dict[str, Any] | None]]:
    """Return stage 1 up to the image by channels."""
    sys.meta_path.insert(0, _Compiled())  # before the light mmcv's own, which cannot be imported
    from mmcv.transforms import LoadImageFromFile, RandomResize
    from mmdet.datasets import transforms as of

    return [
        LoadImageFromFile(),
        of.LoadAnnotations(with_bbox=True),
        of.CachedMosaic(img_scale=SIZE, pad_val=114.0),
        RandomResize(
            scale=(1280, 1280), ratio_range=(0.5, 2.0), resize_type=of.Resize, keep_ratio=True
        ),
        of.RandomCrop(crop_size=SIZE),
        of.YOLOXHSVRandomAug(),
        of.RandomFlip(prob=0.5),
        of.Pad(size=SIZE, pad_val={"img": GRAY}),
        of.CachedMixUp(
            img_scale=SIZE, ratio_range=(1.0, 1.0), max_cached_images=20, pad_val=GRAY
        ),
        of.PackDetInputs(),
    ]  # fmt: skip


def images(split: Split) -> Iterator[dict[str, Any]]:
    """Yield training images without end; one that is given up for another is passed over."""
    pipeline, rows = steps(), [_row(split, index) for index in range(len(split))]
    draw = np.random.default_rng(0)
    while True:
        result: dict[str, Any] | None = pickle.loads(rows[int(draw.integers(len(rows)))])
        for step in pipeline:
            result = None if result is None else step(result)
        if result is not None:
            yield result


def _row(split: Split, index: int) -> bytes:
    """Return what the reference's data set keeps of an image."""
    image, (boxes, labels) = split.images[index], split.objects(index)
    objects = [
        {"ignore_flag": 0, "bbox": box, "bbox_label": label}
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)
    ]
    place = {"img_path": str(split.path(index)), "img_id": index}
    size = {"height": image.height, "width": image.width}
    return pickle.dumps(place | size | {"instances": objects})
