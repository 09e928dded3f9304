"""Where records come from: code, libraries and the version of the study, and what differs in it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records.record import Record

WITH_WEIGHTS = ("num_classes", "freeze_norm", "frozen_stages", "backbone_lr")
"""Knobs that may follow from the weights that a detector starts from, and so from the detector."""
STALE = "of other code: "
"""How the caveat of a result begins that is out of date and was kept."""


def stale(record: Record) -> str | None:
    """Return by what a result is out of date; None if it is not, or if nobody looked."""
    parts = (part for text in record.caveats.values() for part in text.split("; "))
    return next((part.removeprefix(STALE) for part in parts if part.startswith(STALE)), None)


def other_code(records: Sequence[Record]) -> list[str]:
    """Name the files of source that changed between trials; a file of one alone does not count."""
    seen: dict[tuple[str, str], set[str]] = {}
    for record in records:
        for part, files in record.code.items():
            for file, fingerprint in files.items():
                seen.setdefault((part, file), set()).add(fingerprint)
    return sorted({file for (_, file), prints in seen.items() if len(prints) > 1})


def libraries(records: Sequence[Record]) -> dict[str, dict[str, list[Record]]]:
    """Return the libraries whose versions differ between trials: name, version, its trials."""
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        for name, version in record.environment.get("packages", {}).items():
            found.setdefault(name, {}).setdefault(str(version), []).append(record)
    return {name: versions for name, versions in found.items() if len(versions) > 1}


def edited(records: Sequence[Record]) -> list[str]:
    """Name the knobs that differ between trials although no trial overrides them.

    Such trials are of two versions of a study. Knobs that another one brings along, as another
    detector, assigner, recipe or data set does, are no sign of that.
    """
    swept = {path.removesuffix(".type") for record in records for path in record.overrides}
    swapped = len({record.detector for record in records}) > 1
    values: dict[str, set[str]] = {}
    for record in records:
        for path, value in record.config.items():
            values.setdefault(path, set()).add(repr(value))
    return sorted(
        path
        for path, found in values.items()
        if len(found) > 1 and not _follows(path, swept, swapped=swapped)
    )


def _follows(path: str, swept: set[str], *, swapped: bool) -> bool:
    """Say whether a knob is swept, or may change with one that is."""
    root, last = path.partition(".")[0], path.rpartition(".")[2]
    if root in swept or (root == "detector" and swapped):
        return True
    if last in WITH_WEIGHTS and ("weights" in swept or swapped):
        return True
    if path == "detector.num_classes" and any(other.startswith("data") for other in swept):
        return True
    return any(
        path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")
        for other in swept
    )
