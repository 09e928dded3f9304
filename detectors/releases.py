"""Every file of released weights, by the name that a user calls it."""

from __future__ import annotations

from collections.abc import Mapping

from detectors.release import Release
from detectors.rtdetr import releases as rtdetr
from detectors.rtmdet import releases as rtmdet


def _best(files: tuple[Release, ...]) -> Release:
    """Return the first file whose whole hash is published, else upstream's, which is the first."""
    return next((file for file in files if len(file.sha256 or "") == 64), files[0])


RELEASES: Mapping[str, Mapping[str, Release]] = {
    "coco": {
        **rtmdet.CHECKPOINTS,
        **{name: _best(files) for name, files in rtdetr.CHECKPOINTS.items()},
    },
    "objects365": {name: _best(files) for name, files in rtdetr.OBJECTS365_CHECKPOINTS.items()},
    "person": rtmdet.PERSON_CHECKPOINTS,
    "imagenet": {**rtmdet.BACKBONES, **rtdetr.BACKBONES},
}
"""What they were trained on, then the detector that they fit, as `CONFIGS` names it."""

PARTS: Mapping[str, tuple[str, ...]] = {"imagenet": ("backbone",)}
"""The stages that a release has, where it has not all."""
