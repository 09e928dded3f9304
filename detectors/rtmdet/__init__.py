"""RTMDet: a dense one-stage detector with large kernels and soft label assignment."""

from detectors.rtmdet.detector import NANO, TINY, L, M, RTMDet, RTMDetConfig, S, X

__all__ = ["NANO", "TINY", "L", "M", "RTMDet", "RTMDetConfig", "S", "X"]
