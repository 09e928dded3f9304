"""Protocols of records: what differs between them, and whether a study asks about just that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.records.record import Record

SHARED = ("input.", "postprocess.")  # keys of a protocol that are knobs of the detector


def differing(records: Sequence[Record]) -> list[str]:
    """Name what the protocols of trials differ in; settings of latency one by one."""
    flat = [_flat(record.protocol) for record in records]
    keys = dict.fromkeys(key for protocol in flat for key in protocol)
    return [key for key in keys if len({repr(protocol.get(key)) for protocol in flat}) > 1]


def unexplained(records: Sequence[Record]) -> list[str]:
    """Name what the protocols of trials differ in although no trial overrides it.

    What a study itself sweeps is what it asks about, and may differ.
    """
    if len({record.protocol_hash for record in records}) < 2:
        return []
    paths = {path for record in records for path in record.overrides}
    swapped = len({record.detector for record in records}) > 1
    keys = differing(records)
    found = [key for key in keys if not _is_swept(key, paths, swapped=swapped)]
    return found or ([] if keys else ["unknown parts"])


def data_sets(records: Sequence[Record]) -> list[str]:
    """Return the fingerprints of the data that trials were evaluated on, each once."""
    return list(dict.fromkeys(str(record.data.get("fingerprint", "")) for record in records))


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
