"""The code behind a trial's results: the fingerprints of its files, by what they can change.

A change in a comment, in a report, in another family of detectors or in what only watches and
records changes none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

from harness import adapters
from harness.records import digest
from harness.study.sources import OURS, Sources, is_ours

Code: TypeAlias = dict[str, dict[str, str]]
"""Part to file to fingerprint."""
TRAINED = ("detector", "training")
"""Parts that determine trained weights."""
MEASURED = {
    "complexity": ("detector", "complexity"),
    "accuracy": (*TRAINED, "postprocess", "evaluation"),
    "latency": ("detector", "postprocess", "latency"),
    "queries": (*TRAINED, "queries"),
}
"""Parts that determine a trial's figures, by what it measures."""
ROOTS: dict[str, list[tuple[str, str | None]]] = {
    "training": [("trials.learn", None), ("data", "load")],
    "evaluation": [("measure.accuracy.evaluate", None), ("data", "load")],
    "latency": [("trials.timing", None), ("data", "load")],
    "queries": [("measure.accuracy.queries", None), ("data", "load")],
    "complexity": [("measure.complexity", "count")],
    "scoring": [("measure.accuracy.evaluate", "score")],
}
"""Where each part of the harness begins: modules of it, and the name that is needed."""
ROOMS = ("config", "data", "training", "measure")
"""Which of them is followed; the others watch, record, plan and show."""
ADAPTERS = "adapters"  # the room that a foreign model's code is in
NO_MATTER = {
    "detectors": ("configs",),  # what it lists are values of knobs
    "harness": ("data.shapes", "data.fingerprint", "data.check"),  # the fingerprint tells of data
}
POSTPROCESS = ("postprocess", "postprocess_config")
"""Modules of `detectors` that are a part of their own, since no training needs them."""


class CodeError(RuntimeError):
    """Code that is not that which a trial was planned with."""


class Fingerprints:
    """Fingerprints of the code behind the trials of a detector, as its files are now."""

    def __init__(self, detector: str) -> None:
        """Look at no file yet.

        Args:
            detector: name that `harness.adapters.resolve` knows.
        """
        module, colon, _ = detector.partition(":")
        is_own = bool(colon) and not adapters.is_foreign(detector)
        self.own = module if is_own else None
        self.rooms = (*ROOMS, ADAPTERS) if adapters.is_foreign(detector) else ROOMS
        self.sources = Sources(always=module.partition(".")[0] if is_own else "")
        self.parts: dict[tuple[str, ...], dict[str, Path]] = {}

    def of(self, config: Any, measure: Collection[str]) -> Code:
        """Return the code behind a trial.

        Args:
            config: the detector's; which classes it holds decides which files count.
            measure: what the trial measures.
        """
        files = self.files(config, measure)
        found = {
            part: {name: self.sources.read(file).fingerprint for name, file in sorted(held.items())}
            for part, held in files.items()
        }
        self.sources.remember()
        return found

    def files(self, config: Any, measure: Collection[str]) -> dict[str, dict[str, Path]]:
        """Return the files behind a trial: part to name to file."""
        wanted = {part for what in measure for part in MEASURED[what]}
        return {part: found for part in sorted(wanted) if (found := self._part(part, config))}

    def _part(self, part: str, config: Any) -> dict[str, Path]:
        classes = () if part in ROOTS else {type(item).__module__ for item in _configs(config)}
        key = (part, *sorted(classes))
        if key not in self.parts:
            self.parts[key] = self._harness(part) if part in ROOTS else self._detector(key)
        return self.parts[key]

    def _harness(self, part: str) -> dict[str, Path]:
        rooms = [room for room in ROOMS if part != "training" or room != "measure"]
        roots = [(f"harness.{module}", name) for module, name in ROOTS[part]]
        return self.sources.reach(roots, lambda module: _matters(module, rooms))

    def _detector(self, key: Sequence[str]) -> dict[str, Path]:
        """Return a detector's files; of ours, those apart that only postprocessing needs."""
        part, *classes = key
        roots = [(module, None) for module in classes]
        if self.own is not None:
            everything = [(self.own, None), *roots]
            found = self.sources.reach(everything, lambda module: _matters(module, ROOMS))
            return found if part == "detector" else {}
        apart = {f"detectors.{name}" for name in POSTPROCESS}
        model = self.sources.reach(
            [root for root in roots if root[0] not in apart],
            lambda module: _matters(module, self.rooms) and module not in apart,
        )
        if part == "detector":
            return model
        found = self.sources.reach(roots, lambda module: _matters(module, self.rooms))
        return {name: file for name, file in found.items() if name not in model}


def of_scoring() -> Code:
    """Return the code that scores detections which others made."""
    scoring, found = "scoring", Fingerprints("")
    files = found._part(scoring, None)
    return {scoring: {name: found.sources.read(file).fingerprint for name, file in files.items()}}


def differing(one: Code, other: Code) -> list[str]:
    """Name the files that only one of two trials needs, or whose content differs."""
    files = [{file for part in code.values() for file in part.items()} for code in (one, other)]
    return sorted({name for name, _ in files[0] ^ files[1]})


def identity(code: Mapping[str, Mapping[str, str]], parts: Collection[str]) -> dict[str, str]:
    """Hash the parts that determine something."""
    return {part: digest(code[part]) for part in sorted(parts) if part in code}


def _configs(config: Any) -> Iterator[Any]:
    """Yield a config and all configs in it."""
    yield config
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from _configs(value)


def _matters(module: str, rooms: Collection[str]) -> bool:
    """Say whether a module can change a result."""
    if not is_ours(module):
        return True
    top, _, rest = module.partition(".")
    if rest in NO_MATTER[top]:
        return False
    return top == OURS[0] or rest.partition(".")[0] in rooms
