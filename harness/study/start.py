"""What a trial starts from, or evaluates as it is: weights that exist, matched with its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import detectors
from detectors import weights as detector_weights
from detectors.interface import Detector, WeightsError
from detectors.weights import Taken
from harness import released
from harness.config import knobs
from harness.config.knobs import Setup
from harness.config.weights import Weights
from harness.config.yaml_source import StudyError
from harness.data import DataSet, Split, classes
from harness.data.classes import Choice, Known, Matched
from harness.records import RecordError, digest, record
from harness.records.progress import OnProgress, ignore
from harness.study import fitting
from harness.study.found import Labels, Start, of_foreign
from harness.study.study import Study

STAGES = ("backbone", "neck", "head")
OF_CLASSES = "head"  # the stage that tells classes apart
SHOWN = 8  # names in a message


class Starts:
    """Finds what trials start from; what a file says is read once."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.taken: dict[str, Taken] = {}

    def of(
        self, setup: Setup, dataset: DataSet, choice: Choice | None = None, *, count: bool = True
    ) -> tuple[Setup, Start | None]:
        """Match the weights of a trial with the classes of its data set.

        Args:
            setup: of the trial.
            dataset: of the trial.
            choice: what the command line says of classes; None where the study's words count.
            count: whether a detector that is evaluated gets as many classes as its weights have.

        Returns:
            The setup, and the start; None without weights.

        Raises:
            StudyError: the classes do not go together, or parts alone are to be evaluated.
            ClassError: the same, of `choice`.
            WeightsError: the weights are not there, or do not fit.
        """
        given = setup.weights
        if given is None:
            return setup, of_foreign(setup.detector, dataset, choice)
        found = released.find(setup.detector, given.source, fetch=False, parts=given.parts)
        start = Start(
            weights=given,
            digest=found.digest,
            parts=_parts(given.parts or found.parts),
            evaluated=setup.recipe is None,
        )
        if start.evaluated and start.parts is not None:
            raise StudyError(
                f"weights {given.source}: {', '.join(start.parts)} alone finds nothing; add"
                " `recipe:`, so that the rest is trained"
            )
        if found.path is None:
            told = f"not at hand yet; fetched from {found.url}"
            labels = _word(given) if _has_classes(start) else None
            return setup, start.model_copy(update={"labels": labels, "taken": told})
        if _has_classes(start):
            known = self._known(found.path, found.digest, setup.detector)
            if start.evaluated and count:
                setup = knobs.turn(setup, {"detector.num_classes": known.num_labels})
            matched = _matched(start, known, setup, dataset, choice)
            start = start.model_copy(update=matched._asdict())
        taken = self._taken(setup.detector, found.path, start)
        if not taken.tensors:
            raise StudyError(
                f"weights {given.source}: nothing of them is taken, as all of it follows the number"
                " of classes; take further parts, or leave the weights out"
            )
        numbers = {"parameters": taken.parameters, "fresh_parameters": taken.fresh_parameters}
        return setup, start.model_copy(update={"taken": taken.text, **numbers})

    def _known(self, path: Path, content: str, config: Any) -> Known:
        key = digest([str(path), content, type(config).__name__])
        if key not in self.known:
            self.known[key] = known_classes(str(path), config)
        return self.known[key]

    def _taken(self, config: Any, path: Path, start: Start) -> Taken:
        key = digest([repr(config), start.identity, start.evaluated])
        if key not in self.taken:
            self.taken[key] = _fill(config.build(), path, start)
        return self.taken[key]


def fetch(study: Study, on_progress: OnProgress = ignore) -> None:
    """Have the released weights here that a study's trials start from.

    Raises:
        StudyError: they cannot be had.
    """
    for row in fitting.rows(study):
        setup = study.setup(row)
        if setup.weights is None:
            continue
        wanted = setup.weights
        try:
            released.find(
                setup.detector,
                wanted.source,
                fetch=True,
                parts=wanted.parts,
                on_progress=on_progress,
            )
        except WeightsError as error:
            raise StudyError(f"{study.where('weights')}: {error}") from error


def take(detector: Detector, start: Start) -> Taken:
    """Load the weights of a start into a detector; a release that is not here is fetched.

    Raises:
        WeightsError: they cannot be had, are others than when the trial was written down, or do
            not fit.
    """
    given = start.weights
    found = released.find(detector.config, given.source, fetch=True, parts=given.parts)
    planned = start.digest
    if ":" not in planned and found.digest != planned:
        raise WeightsError(
            f"{given.source}: changed since the study was started: sha256 {found.digest[:12]},"
            f" planned {planned[:12]}; run the study again"
        )
    assert found.path is not None
    return _fill(detector, found.path, start)


def seen_by(split: Split, start: Start) -> Split:
    """Return a validation split for the labels of weights that are evaluated as they are."""
    matched = start.matched()
    return split if matched is None else classes.seen_by(split, matched)


def known_classes(source: str, config: Any) -> Known:
    """Return what weights were trained to find, as they say or as the record beside them does.

    Args:
        source: a file or folder of weights.
        config: of the detector that takes them.

    Raises:
        WeightsError: they cannot be read.
    """
    found = detectors.class_names(source, config)
    count = detectors.count_classes(source, config) or config.num_classes
    if found is None:
        return Known(source, count, _recorded(Path(source), count))
    note = f"{source} names no classes; as in upstream's releases they are taken for COCO's"
    return Known(source, count, found.names, note if found.assumed else "")


def _recorded(source: Path, count: int) -> tuple[str, ...] | None:
    """Return the classes of the trial that left its record beside weights of its own."""
    folder = source if source.is_dir() else source.parent
    if source.is_file() and source.name != detector_weights.WEIGHTS_FILE:
        return None
    try:
        names = record.read(folder).data.get("classes")
    except (OSError, RecordError):
        return None
    if not isinstance(names, list) or len(names) > count:
        return None
    return tuple(map(str, names))


def _fill(detector: Detector, path: Path, start: Start) -> Taken:
    if start.labels == "auto" or start.labels == "by_name":
        raise WeightsError(
            f"{start.weights.source}: was not at hand when the study was planned, so no class was"
            " matched; it is now, so run the study again"
        )
    labels = None if start.evaluated else start.labels
    return detector_weights.fill(detector, path, parts=start.parts, labels=labels)


def _parts(given: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return stages in their order; None for all of them."""
    if given is None or set(given) == set(STAGES):
        return None
    return tuple(stage for stage in STAGES if stage in given)


def _has_classes(start: Start) -> bool:
    """Say whether what is taken tells classes apart."""
    return start.parts is None or OF_CLASSES in start.parts


def _word(given: Weights) -> Labels:
    """Tell ways to match classes apart as long as the weights are not at hand."""
    return None if given.classes == "same" else given.classes


class _Matched(NamedTuple):
    """Fields of a start that tell of classes."""

    labels: Labels
    known: tuple[str, ...] | None
    notes: tuple[str, ...]
    shared: tuple[str, ...] | None = None


def _matched(
    start: Start, known: Known, setup: Setup, dataset: DataSet, choice: Choice | None
) -> _Matched:
    """Say which label each class gets, as the study or the command line wants it."""
    wanted, word = [category.name for category in dataset.categories], start.weights.classes
    if choice is not None and (choice.pairs or choice.in_order):
        found = classes.match(known, dataset.name, wanted, choice)
    elif word == "same":
        if not start.evaluated:
            return _Matched(None, known.names, ())
        found = _in_order(known, dataset, len(wanted))
    elif word == "fresh" and not start.evaluated:
        return _Matched("fresh", known.names, ())
    else:
        lacking = [name for name in wanted if name not in (known.names or ())]
        refused = _why_not(known, dataset, wanted, lacking)
        if refused and (start.evaluated or word == "by_name"):
            raise StudyError(refused)
        if lacking and word != "by_name":
            if start.evaluated:
                raise StudyError(_unknown(start, known, dataset, lacking))
            note = refused or f"{known.owner} does not know {_some(lacking)}"
            return _Matched("fresh", known.names, (f"{note}; what belongs to a class starts anew",))
        found = classes.match(known, dataset.name, wanted, Choice(shared=True))
    if start.evaluated:
        shared = [n for n, label in zip(wanted, found.labels, strict=True) if label is not None]
        kept = None if found.is_same else found.labels
        return _Matched(kept, known.names, found.notes, None if found.is_whole else tuple(shared))
    labels = _labels(found, known, setup.detector.num_classes)
    return _Matched(labels, known.names, found.notes)


def _in_order(known: Known, dataset: DataSet, count: int) -> Matched:
    """Take labels for the classes of a data set in its order, as `classes: same` says."""
    if known.num_labels != count:
        raise StudyError(
            f"`classes: same`: {known.owner} tells {known.num_labels} classes apart, data set"
            f" {dataset.name} has {count}; `classes: by_name` evaluates over those that both have"
        )
    said = f"classes are taken to be those of {dataset.name} in its order, as `classes: same` says"
    return Matched(tuple(range(count)), (said,))


def _labels(found: Matched, known: Known, num_classes: int) -> Labels:
    """Return the label of each of a detector's classes; None where they are the same."""
    taken = [label for label in found.labels if label is not None]
    rest: list[int | None] = [label for label in range(known.num_labels) if label not in taken]
    spare = num_classes - len(found.labels)  # that no class of the data set has
    behind = [*rest, *([None] * spare)][:spare]
    labels = (*found.labels, *behind)
    return None if labels == tuple(range(known.num_labels)) else labels


def _why_not(known: Known, dataset: DataSet, wanted: list[str], lacking: list[str]) -> str | None:
    """Say why no class can be matched by name; None if one can."""
    if known.names is None:
        return (
            f"{known.owner} does not say which classes its {known.num_labels} labels are;"
            " `classes: same` takes them for those of the data set in its order"
        )
    if len(lacking) < len(wanted):
        return None
    return (
        f"{known.owner} knows no class of data set {dataset.name}: that has {_some(wanted)}, the"
        f" weights have {_some(known.names)}; for a training, `classes: fresh` takes all but what"
        " belongs to classes"
    )


def _unknown(start: Start, known: Known, dataset: DataSet, lacking: list[str]) -> str:
    source = start.weights.source
    return (
        f"{known.owner} does not know {len(lacking)} of the {len(dataset.categories)} classes of"
        f" data set {dataset.name}: {_some(lacking)}; it knows {_some(known.names or ())}."
        f" `weights: {{from: {source}, classes: by_name}}` evaluates over the others"
    )


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
