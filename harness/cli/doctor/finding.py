"""What an examination finds, in the words of whoever has to act on it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["ok", "limits", "missing", "broken"]


class Finding(NamedTuple):
    """One fact about a machine."""

    check: str  # what was looked at; claims name it
    severity: (
        Severity  # broken: detbench does not work; limits and missing: some claims do not hold
    )
    found: str
    consequence: str = ""
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Return a finding that limits nothing."""
    return Finding(check, "ok", found)
