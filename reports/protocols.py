"""Protocols in a table: rows that were measured differently share none unless told to."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import Record
from harness.records.protocols import letters, unexplained


class MixedProtocols(ValueError):
    """Trials whose figures do not mean the same."""


def refuse(records: Sequence[Record]) -> None:
    """Refuse to put trials into one table that were measured differently.

    What a study itself sweeps is what it asks about, and may differ.

    Raises:
        MixedProtocols: in one line, what differs that no trial overrides.
    """
    found = unexplained(records)
    if found:
        count = len(set(letters(records).values()))
        raise MixedProtocols(
            f"the trials were measured by {count} protocols, which differ in"
            f" {', '.join(found)}; measure them alike, or --mixed shows them in one table and"
            " marks the rows"
        )
