"""Backbones, shared by the detectors because studies swap them."""
