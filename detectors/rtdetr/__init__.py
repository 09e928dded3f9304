"""RT-DETR: a transformer decoder behind a hybrid encoder, which needs no suppression."""

from detectors.rtdetr.config import HGNETV2_L, HGNETV2_X, R18, R34, R50, R50_M, R101, RTDETRConfig

__all__ = ["HGNETV2_L", "HGNETV2_X", "R18", "R34", "R50", "R50_M", "R101", "RTDETRConfig"]
