"""Footnotes of a table: few, by letters, and what all rows share in a sentence."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Sequence
from typing import NamedTuple

NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?!\w|[.,]\d)")
"""A number that stands by itself, and is no part of a version or a hash."""


class Remark(NamedTuple):
    """What a reader must know of one value, or of one that is missing."""

    row: int
    key: str  # of the column
    label: str  # of the column; empty where the remark is on the row
    text: str
    missing: bool = False


class Gathered(NamedTuple):
    """Remarks as they are shown."""

    shared: list[str]  # sentences on all rows
    notes: list[str]  # footnotes, named by `letter`
    marks: dict[tuple[int, str], tuple[str, ...]]  # row and column: letters of its notes


def letter(number: int) -> str:
    """Name a footnote: a, b, ... z, aa, ab; no digit, which would read as one of the value."""
    alphabet, name = string.ascii_lowercase, ""
    while number >= 0:
        name, number = alphabet[number % 26] + name, number // 26 - 1
    return name


def gather(remarks: Sequence[Remark], rows: Collection[int], lead: str) -> Gathered:
    """Put remarks into sentences and footnotes.

    Remarks that differ in their numbers only are one, with the range of each number. What holds for
    all of the rows becomes a sentence; what holds for several columns of a row is marked at its
    head; all else at the value.

    Args:
        remarks: in the order of the table.
        rows: those that count as all, such as the trials that are done.
        lead: key of the column at the head of a row.
    """
    shared: list[str] = []
    noted: dict[str, None] = {}
    marks: dict[tuple[int, str], list[str]] = {}
    for alike in _alike(remarks):
        columns = _columns_by_row(alike)
        if len(rows) > 1 and columns.keys() >= set(rows):
            shared.append(_worded(alike))
            continue
        for names in dict.fromkeys(columns.values()):
            group = [remark for remark in alike if columns[remark.row] == names]
            text = _worded(group)
            noted.setdefault(text)
            name = letter(list(noted).index(text))
            for remark in group:
                place = (remark.row, remark.key if len(names) == 1 else lead)
                if name not in marks.setdefault(place, []):
                    marks[place].append(name)
    return Gathered(shared, list(noted), {place: tuple(found) for place, found in marks.items()})


def _alike(remarks: Sequence[Remark]) -> list[list[Remark]]:
    """Group remarks that say the same but for their numbers."""
    groups: dict[tuple[str, bool], list[Remark]] = {}
    for remark in remarks:
        groups.setdefault((NUMBER.sub("0", remark.text), remark.missing), []).append(remark)
    return list(groups.values())


def _columns_by_row(remarks: Sequence[Remark]) -> dict[int, tuple[str, ...]]:
    found: dict[int, dict[str, None]] = {}
    for remark in remarks:
        found.setdefault(remark.row, {}).setdefault(remark.label)
    return {row: tuple(labels) for row, labels in found.items()}


def _worded(remarks: Sequence[Remark]) -> str:
    """Say a remark once: its columns, and its text with the range of each number."""
    labels = ", ".join(filter(None, dict.fromkeys(remark.label for remark in remarks)))
    text = _with_ranges([remark.text for remark in remarks])
    if remarks[0].missing:
        return f"{labels} missing: {text}"
    return f"{labels}: {text}" if labels else text


def _with_ranges(texts: Sequence[str]) -> str:
    """Merge texts that differ in their numbers only."""
    columns = zip(*(NUMBER.findall(text) for text in texts), strict=True)
    ranges = iter([_range(numbers) for numbers in columns])
    return NUMBER.sub(lambda _: next(ranges), texts[0])


def _range(numbers: Sequence[str]) -> str:
    ordered = sorted(set(numbers), key=lambda text: float(text.replace(",", "")))
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
