"""Label assignment: which predictions have to find which objects, decided anew at every step.

Whichever is chosen, RTMDet is trained on the quality focal loss and on GIoU, both against the
overlap of the prediction with its object, or against 1 (`criterion.labels: one`). The overlap is
what DynamicSoftLabel and, in Generalized Focal Loss, ATSS come with. Others were published with
losses of their own: SimOTA with cross entropy and an objectness, OTA, MaxIoU and FCOS with the
focal loss against 1 (FCOS with a centre-ness), TOOD with its scaled metric in place of the overlap,
and the Hungarian one with the focal loss, an L1 and a GIoU loss.

SimOTA was proved on points at the centres of cells, the others on RTMDet's corners;
an assigner takes the points that the head has.
"""

from detectors.assigners.anchored_config import ATSS, MaxIoU
from detectors.assigners.dynamic_config import DynamicSoftLabel, SimOTA
from detectors.assigners.fcos_config import FCOSCenter
from detectors.assigners.hungarian_config import Hungarian
from detectors.assigners.ota_config import OTA
from detectors.assigners.task_aligned_config import TaskAligned

AnyAssigner = DynamicSoftLabel | SimOTA | TaskAligned | ATSS | MaxIoU | FCOSCenter | OTA | Hungarian
"""What a dense detector's config takes as its `assigner`."""

__all__ = [
    "ATSS",
    "OTA",
    "AnyAssigner",
    "DynamicSoftLabel",
    "FCOSCenter",
    "Hungarian",
    "MaxIoU",
    "SimOTA",
    "TaskAligned",
]
