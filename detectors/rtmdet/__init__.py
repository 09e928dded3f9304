"""RTMDet: a dense one-stage detector with large kernels and soft label assignment."""

from detectors.rtmdet.detector import TINY, L, M, RTMDet, RTMDetConfig, S, X

__all__ = ["TINY", "L", "M", "RTMDet", "RTMDetConfig", "S", "X"]
