"""What is known of a file of released weights."""

from __future__ import annotations

from typing import NamedTuple


class Release(NamedTuple):
    """A released file."""

    url: str
    sha256: str | None = None  # as published: all 64 digits, the first eight, or None
