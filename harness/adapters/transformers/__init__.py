"""Detectors of transformers: a folder that `save_pretrained` wrote, or an architecture by name."""
