"""Protocols in a table: rows that were measured differently share none unless told to."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from harness.records import Record

SHARED = ("input.", "postprocess.")  # keys of a protocol that are knobs of the detector


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


def differing(records: Sequence[Record]) -> list[str]:
    """Name what the protocols of trials differ in; settings of latency one by one."""
    flat = [_flat(record.protocol) for record in records]
    keys = dict.fromkeys(key for protocol in flat for key in protocol)
    return [key for key in keys if len({repr(protocol.get(key)) for protocol in flat}) > 1]


def unexplained(records: Sequence[Record]) -> list[str]:
    """Name what the protocols of trials differ in although no trial overrides it."""
    if len(letters(records)) < 2:
        return []
    paths = {path for record in records for path in record.overrides}
    swapped = len({record.detector for record in records}) > 1
    found = [key for key in differing(records) if not _is_swept(key, paths, swapped=swapped)]
    return found or ([] if differing(records) else ["unknown parts"])


def _is_swept(key: str, paths: set[str], *, swapped: bool) -> bool:
    """Say whether a key of a protocol follows from knobs that trials override."""
    if key == "data":
        return any(path.startswith("data.") for path in paths)
    if key.startswith(SHARED):
        return swapped or f"detector.{key}" in paths or "detector" in paths
    return key in paths


def _flat(protocol: dict[str, Any]) -> dict[str, Any]:
    inner = protocol.get("latency")
    if not isinstance(inner, dict):
        return protocol
    rest = {key: value for key, value in protocol.items() if key != "latency"}
    return rest | {f"latency.{key}": value for key, value in inner.items()}


def _letter(number: int) -> str:
    alphabet = string.ascii_uppercase
    return alphabet[number] if number < len(alphabet) else f"P{number + 1}"
