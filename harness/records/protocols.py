"""Protocols of records: what differs between them, and whether a study asks about just that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.records import variants
from harness.records.record import Record

SHARED = ("input.", "postprocess.")  # keys of a protocol that are knobs of the detector


def differing(records: Sequence[Record]) -> list[str]:
    """Name what the protocols of trials differ in; settings of latency one by one."""
    flat = [_flat(record.protocol) for record in records]
    keys = dict.fromkeys(key for protocol in flat for key in protocol)
    return [key for key in keys if len({repr(protocol.get(key)) for protocol in flat}) > 1]


def unexplained(records: Sequence[Record]) -> list[str]:
    """Name what the protocols of trials differ in although the study does not ask about it.

    What a study itself sweeps is its question, and may differ: as far as the settings of the swept
    knobs determine it. Trials of equal settings whose protocols differ are not explained by them.
    """
    if len({record.protocol_hash for record in records}) < 2:
        return []
    keys = differing(records)
    found = [key for key in keys if not _is_explained(key, records)]
    return found or ([] if keys else ["unknown parts"])


def brought_along(records: Sequence[Record]) -> list[str]:
    """Name what the protocols of trials differ in because of swept knobs, such as the detector.

    The swept knobs themselves are left out: names of variants tell them.
    """
    told = {path.removeprefix("detector.") for path in variants.swept(records)}
    unasked = unexplained(records)
    return [key for key in differing(records) if key not in (*unasked, *told)]


def letters(records: Sequence[Record]) -> dict[str, str]:
    """Name protocols `A`, `B`, ... in the order in which they appear, by their hash.

    Protocols that differ in nothing but what the study sweeps have one letter.
    """
    unasked = unexplained(records)
    known = unasked != ["unknown parts"]
    kinds: dict[str, str] = {}
    for record in records:
        rest = [repr(_flat(record.protocol).get(key)) for key in unasked]
        kinds.setdefault(record.protocol_hash, repr(rest) if known else record.protocol_hash)
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds.values()))}
    return {each: _letter(places[kind]) for each, kind in kinds.items()}


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"P{number + 1}"


def of_accuracy(record: Record) -> dict[str, Any]:
    """Return the part of a trial's protocol that says how its accuracy was measured."""
    other = ("latency", "latency.", "sync", "measure", "queries")
    return {key: value for key, value in record.protocol.items() if not key.startswith(other)}


def data_sets(records: Sequence[Record]) -> list[str]:
    """Return the fingerprints of the data that trials were evaluated on, each once."""
    return list(dict.fromkeys(str(record.data.get("fingerprint", "")) for record in records))


def _is_explained(key: str, records: Sequence[Record]) -> bool:
    """Say whether a key of a protocol follows from the settings of swept knobs."""
    paths = [path for path in variants.knobs(records) if _acts_on(path, key)]
    found: dict[tuple[str, ...], str] = {}
    for record in records:
        setting, own = variants.variant(record, paths), repr(_flat(record.protocol).get(key))
        if found.setdefault(setting, own) != own:
            return False
    return True


def _acts_on(path: str, key: str) -> bool:
    """Say whether a swept knob, or a group of knobs, has a say in a key of a protocol."""
    if key == "data":
        return path.startswith("data.")
    knob = f"detector.{key}" if key.startswith(SHARED) else key
    return path in (knob, "detector") or knob.startswith(f"{path}.")


def _flat(protocol: dict[str, Any]) -> dict[str, Any]:
    inner = protocol.get("latency")
    if not isinstance(inner, dict):
        return protocol
    rest = {key: value for key, value in protocol.items() if key != "latency"}
    return rest | {f"latency.{key}": value for key, value in inner.items()}
