"""Released files: weights for a detector and COCO 2017, where they lie, how they come here."""

from harness.released.auto import resolve_auto
from harness.released.lookup import Found, find, own_file

__all__ = ["Found", "find", "own_file", "resolve_auto"]
