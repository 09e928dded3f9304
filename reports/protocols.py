"""Protocols in a table: rows that were measured differently share none unless told to."""

from __future__ import annotations

import string
from collections.abc import Sequence

from harness.records import Record
from harness.records.protocols import unexplained


class MixedProtocols(ValueError):
    """Trials whose figures do not mean the same."""


def refuse(records: Sequence[Record]) -> None:
    """Refuse to put trials into one table that were measured differently.

    What a study itself sweeps is what it asks about: it may differ, and rows are marked.

    Raises:
        MixedProtocols: in one line, what differs that no trial overrides.
    """
    found = unexplained(records)
    if found:
        raise MixedProtocols(
            f"the trials were measured by {len(letters(records))} protocols, which differ in"
            f" {', '.join(found)}; measure them alike, or --mixed shows them in one table and"
            " marks the rows"
        )


def letters(records: Sequence[Record]) -> dict[str, str]:
    """Name protocols `A`, `B`, ... in the order in which they appear, by their hash."""
    hashes = dict.fromkeys(record.protocol_hash for record in records)
    return {each: _letter(number) for number, each in enumerate(hashes)}


def _letter(number: int) -> str:
    alphabet = string.ascii_uppercase
    return alphabet[number] if number < len(alphabet) else f"P{number + 1}"
