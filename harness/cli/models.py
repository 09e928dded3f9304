"""Models as the commands name them, by name or by folder, and what is shown of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from rich.console import Console

import detectors
from detectors import RELEASES
from detectors.interface import Detector, WeightsError
from harness import adapters, data, released
from harness import study as studies
from harness.adapters import classes as adapters_classes
from harness.cli import console
from harness.cli.board import Board
from harness.cli.named import configured, is_saved, trusted_names
from harness.config import knobs
from harness.config.knobs import Setup
from harness.config.recipe import Recipe
from harness.data import OneSplit, classes
from harness.data.classes import Choice, Matched
from harness.records.progress import OnProgress
from harness.study import Study, StudyError
from harness.study.start import fetch, known_classes

NUM_CLASSES = "detector.num_classes"


def is_trained(name: str, weights: str | None, config: Any) -> bool:
    """Say whether a model has weights: named ones, those of its folder, or those it brings."""
    return weights is not None or is_saved(name) or adapters.brings_weights(config)


def weights_of(name: str, weights: str | None, config: Any) -> str | None:
    """Return the file or folder of a model's weights; None for an untrained one.

    Args:
        name: of a detector or a folder.
        weights: a file, a folder, or the name of a release, which is fetched if need be; None for
            those beside a saved one.
        config: of the detector.

    Raises:
        StudyError: the release has some stages alone.
        WeightsError: there is no such release, or it cannot be had.
    """
    if weights is not None and adapters.brings_weights(config):
        raise StudyError(f"--weights {weights}: {name} brings its own; leave --weights out")
    if weights is None or weights not in RELEASES:
        if weights is not None:
            return os.path.expanduser(weights)
        return name if is_saved(name) else None
    with one_line(f"{name} {weights}", None) as on_progress:
        found = released.find(config, weights, fetch=True, on_progress=on_progress)
    if found.parts is not None:
        raise StudyError(
            f"weights {weights}: {', '.join(found.parts)} alone finds nothing; train from them"
        )
    return str(found.path)


class Opened(NamedTuple):
    """A detector, and a split of a data set that has its labels."""

    detector: Detector
    dataset: OneSplit
    setup: Setup
    notes: tuple[str, ...]  # on the classes
    shared: tuple[str, ...] | None  # names of the classes evaluated over; None for all


def opened(
    name: str,
    data_name: str,
    changes: Mapping[str, Any],
    weights: str | None,
    choice: Choice,
    *,
    trust: bool,
    split: str = "val",
) -> Opened:
    """Make a detector and open a split of a data set, with classes matched to those of the weights.

    Args:
        name: of a detector or a folder.
        data_name: of the data set.
        changes: knobs to turn.
        weights: that replace a folder's.
        choice: what the user says of classes.
        trust: see `trusted_names`.
        split: which is opened; the others need not exist.

    Raises:
        StudyError: an untrained detector tells others apart.
        ClassError: the classes of the weights are not those of the data set, or unknown.
    """
    setup = configured(name, changes, trusted_names([name], trust=trust))
    source = weights_of(name, weights, setup.detector)
    where = setup.data.model_copy(update={"source": data_name})
    dataset = data.load_split(where, split, in_order=choice.in_order)
    names = [category.name for category in dataset.categories]
    setup = counted(name, setup, changes, source, len(names))
    studies.check_size(setup.detector)
    detector = created(name, setup, source)
    if source is not None or adapters.brings_weights(detector.config):
        matched = _matched(source, detector.config, dataset.name, names, choice)
        note(console.stderr(), adapters.notes(detector.config))
        dataset = replace(dataset, split=classes.seen_by(dataset.split, matched))
        shared = tuple(category.name for category in dataset.categories)
        whole = len(shared) == len(names)
        return Opened(detector, dataset, setup, matched.notes, None if whole else shared)
    if choice.pairs or choice.in_order or choice.shared:
        raise StudyError(f"{name} is untrained: --classes and --shared-classes go with weights")
    if detector.config.num_classes != len(names):
        raise StudyError(
            f"{name} tells {detector.config.num_classes} classes apart, data set {dataset.name} has"
            f" {len(names)}; name weights that were trained on it, or --set {NUM_CLASSES}"
        )
    return Opened(detector, dataset, setup, (), None)


def _matched(
    source: str | None, config: Any, data_name: str, names: Sequence[str], choice: Choice
) -> Matched:
    """Find the label of each class of a data set."""
    brought = adapters_classes.known(config)
    if brought is not None:
        return adapters_classes.matched(brought, data_name, names, choice)
    assert source is not None
    return classes.match(known_classes(source, config), data_name, names, choice)


def created(name: str, setup: Setup, source: str | None) -> Detector:
    """Build a detector with weights, if there are any.

    Args:
        name: of a detector or a folder, for messages.
        setup: its setup.
        source: of the weights.

    Raises:
        WeightsError: they do not fit; says which they are, and for which detector.
    """
    try:
        return detectors.create(setup.detector, weights=source)
    except WeightsError as error:
        whose = "" if source is None or source in str(error) else f"weights {source} for {name}: "
        raise WeightsError(f"{whose}{error}") from error


def counted(
    name: str, setup: Setup, changes: Mapping[str, Any], source: str | None, count: int
) -> Setup:
    """Give a detector as many classes as its weights have, unless its folder or the user says.

    Args:
        name: of a detector or a folder.
        setup: its setup.
        changes: knobs that the user turns.
        source: of its weights; None for an untrained one.
        count: where weights say nothing.
    """
    is_told = adapters.brings_weights(setup.detector)
    if is_told or is_saved(name) or NUM_CLASSES in changes:
        return setup
    known = None if source is None else detectors.count_classes(source, setup.detector)
    return knobs.turn(setup, {NUM_CLASSES: known or count})


def over(shared: Sequence[str] | None, split: str = "val") -> dict[str, Any]:
    """Return what a protocol says of classes and split: nothing of all classes, nor of `val`."""
    known = {} if shared is None else {"classes": list(shared)}
    return known | ({} if split == "val" else {"split": split})


def place(data_name: str, split: str) -> str:
    """Name a split of a data set for people."""
    return data_name if split == "val" else f"{data_name}, split {split}"


def note(out: Console, notes: Iterable[str]) -> None:
    """Print notes, one a line."""
    for text in notes:
        out.print(f"note: {text}")


def show_metrics(metrics: Mapping[str, float], title: str) -> None:
    """Print metrics as a table."""
    shown = [{"metric": name, "value": f"{value:g}"} for name, value in metrics.items()]
    columns = {"metric": "metric", "value": "value"}
    console.stdout().print(console.table(columns, shown, title))


@contextmanager
def one_line(title: str, recipe: Recipe | None) -> Iterator[OnProgress]:
    """Show the progress of one model."""
    with Board(console.stderr()) as board:
        board.begin(title, title, recipe)
        yield lambda step: board.update(title, step)


def get_weights(study: Study) -> None:
    """Download the released weights that a study starts from, and show how far that is."""
    if study.weights is None and "weights" not in study.axes:
        return
    with Board(console.stderr()) as board, board.row("weights") as on_progress:
        fetch(study, on_progress)
