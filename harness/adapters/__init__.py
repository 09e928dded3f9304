"""Foreign models as detectors: what nobody here wrote, under the contract of those built in.

From name to detections: `names` finds a config by its name, `foreign` says what such a config tells
besides, `model` is the detector that is built from it, and each kind has a folder with the rest.
What is imported here needs no torch.
"""

from harness.adapters.foreign import Foreign, brings_weights, check, notes
from harness.adapters.names import KINDS, is_foreign, is_trusted, resolve, saved_config

__all__ = [
    "KINDS",
    "Foreign",
    "brings_weights",
    "check",
    "is_foreign",
    "is_trusted",
    "notes",
    "resolve",
    "saved_config",
]
