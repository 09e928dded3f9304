"""RTMDet: a dense one-stage detector with large kernels and soft label assignment."""

from detectors.rtmdet.config import NANO, TINY, L, M, RTMDetConfig, S, X

__all__ = ["NANO", "TINY", "L", "M", "RTMDetConfig", "S", "X"]
