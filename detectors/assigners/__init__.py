"""Label assignment: which predictions have to find which objects, decided anew at every step."""

from detectors.assigners.anchored import ATSS, MaxIoU
from detectors.assigners.dynamic import DynamicSoftLabel, SimOTA
from detectors.assigners.fcos import FCOSCenter
from detectors.assigners.task_aligned import TaskAligned

AnyAssigner = DynamicSoftLabel | SimOTA | TaskAligned | ATSS | MaxIoU | FCOSCenter
"""What a dense detector's config takes as its `assigner`."""

__all__ = [
    "ATSS",
    "AnyAssigner",
    "DynamicSoftLabel",
    "FCOSCenter",
    "MaxIoU",
    "SimOTA",
    "TaskAligned",
]
