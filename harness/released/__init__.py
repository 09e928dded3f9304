"""Released weights: which there are for a detector, where they lie, and how they come here."""

from harness.released.auto import resolve_auto
from harness.released.lookup import Found, find

__all__ = ["Found", "find", "resolve_auto"]
