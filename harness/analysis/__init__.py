"""Comparisons of finished trials, and settings of NMS against each other."""
