"""Variants: what a study's trials differ in beside their seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.records.record import Record

MOST_DIGITS = 8  # letters of a number that nobody wrote by hand


def knobs(records: Sequence[Record]) -> dict[str, str]:
    """Name the knobs that some trial overrides.

    Returns:
        Dotted path: the shortest tail of it that no other of these knobs shares.
    """
    paths = list(dict.fromkeys(path for record in records for path in record.overrides))
    if len({record.detector for record in records}) > 1:
        paths = ["detector", *(path for path in paths if path != "detector")]
    return {path: _short(path, paths) for path in paths}


def _short(path: str, paths: Sequence[str]) -> str:
    parts = path.split(".")
    tails = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
    others = [other for other in paths if other != path]
    return next(
        (tail for tail in tails if not any(f".{other}".endswith(f".{tail}") for other in others)),
        path,
    )


def value(record: Record, path: str) -> Any:
    """Return what a knob is set to in a trial: overridden, or as the study has it."""
    if path == "detector":
        return record.detector
    return record.overrides.get(path, record.config.get(path))


def plain(setting: Any) -> str:
    """Write the value of a knob the way YAML would, on one line."""
    if setting is None:
        return "null"
    if isinstance(setting, bool):
        return str(setting).lower()
    if isinstance(setting, list | tuple):
        return "[" + ", ".join(map(plain, setting)) + "]"
    if isinstance(setting, dict):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in setting.items()) + "}"
    return str(setting)


def worded(setting: Any) -> str:
    """Write the value of a knob for the eye: as `plain`, without the signs of YAML.

    Numbers that a search drew have four digits.
    """
    if setting is None or setting in ([], {}):
        return "none"
    if isinstance(setting, list | tuple):
        return "[" + ", ".join(map(worded, setting)) + "]"
    if isinstance(setting, dict):
        kind = setting.get("type")
        parts = [f"{key} {worded(item)}" for key, item in setting.items() if key != "type"]
        if kind is None:
            return ", ".join(parts)
        return f"{worded(kind)} ({', '.join(parts)})" if parts else worded(kind)
    text = plain(setting)
    return f"{setting:.4g}" if isinstance(setting, float) and len(text) > MOST_DIGITS else text


def variant(record: Record, paths: Iterable[str]) -> tuple[str, ...]:
    """Return what tells a trial's variant from others: its knobs, not its seed."""
    return tuple(plain(value(record, path)) for path in paths)


def variants(records: Sequence[Record]) -> list[list[Record]]:
    """Group trials that differ in their seed only, in the order they first appear.

    Trials that were measured differently are no seeds of one variant.
    """
    paths = knobs(records)
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        key = (*variant(record, paths), record.protocol_hash)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def has_seeds(records: Sequence[Record]) -> bool:
    """Say whether some variant was tried with more than one seed."""
    return any(len({record.seed for record in group}) > 1 for group in variants(records))


def title(record: Record) -> str:
    """Name a variant in words, for a reader."""
    return record.name or record.detector


def swept(records: Sequence[Record]) -> list[str]:
    """Return the dotted paths of the knobs that take more than one value."""
    return [
        path
        for path in knobs(records)
        if len({plain(value(record, path)) for record in records}) > 1
    ]


def settings(records: Sequence[Record], path: str) -> list[Any]:
    """Return the distinct settings of a knob: numbers by size, others as they first appear."""
    return ordered([value(record, path) for record in records])


def is_number(setting: Any) -> bool:
    """Say whether the setting of a knob is a number."""
    return isinstance(setting, int | float) and not isinstance(setting, bool)


def ordered(settings: Sequence[Any]) -> list[Any]:
    """Return distinct settings: numbers by size, others as they first appear."""
    distinct = list({plain(setting): setting for setting in settings}.values())
    return sorted(distinct) if all(map(is_number, distinct)) else distinct
