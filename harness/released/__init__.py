"""Released weights: which there are for a detector, where they lie, and how they come here."""

from harness.released.auto import resolve_auto
from harness.released.lookup import Found, find, own_file

__all__ = ["Found", "find", "own_file", "resolve_auto"]
