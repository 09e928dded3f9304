"""Models as the commands name them, by name or by folder, and what is shown of one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import detectors
from detectors import weights as detector_weights
from detectors.interface import Detector
from harness import data
from harness import study as studies
from harness.cli import console
from harness.cli.console import Board
from harness.config import knobs
from harness.config.knobs import Setup
from harness.config.recipe import Recipe
from harness.data import DataSet
from harness.records.progress import OnProgress
from harness.study import StudyError


def trusted_names(models: Sequence[str], *, trust: bool) -> set[str]:
    """Return the detectors whose code may run.

    Args:
        models: as the command line names them; a detector that it names itself is trusted, and so
            are the folders that name the same one.
        trust: whether those are, too, that other folders name.
    """
    folders = {name for name in models if is_saved(name)}
    given = set(models) - folders
    return given | {detector_weights.saved_name(Path(name)) for name in folders if trust}


def configured(name: str, changes: Mapping[str, Any], trusted: Collection[str] = ()) -> Setup:
    """Return the setup of a detector by name, or of one that a training saved in a folder.

    Args:
        name: of a detector or a folder.
        changes: knobs to turn.
        trusted: from `trusted_names`.
    """
    if is_saved(name):
        config = detector_weights.load(Path(name), trusted).config
    else:
        config = detectors.resolve(name)
    return knobs.turn(knobs.start(config, None, "shapes"), changes)


def weights_of(name: str, weights: str | None) -> str | None:
    """Return where a model's weights come from; None for an untrained one."""
    return weights or (name if is_saved(name) else None)


def opened(
    name: str, data_name: str, changes: Mapping[str, Any], weights: str | None, *, trust: bool
) -> tuple[Detector, DataSet, Setup]:
    """Make a detector and open a data set, whose classes it must tell apart.

    Args:
        name: of a detector or a folder.
        data_name: of the data set.
        changes: knobs to turn.
        weights: that replace a folder's.
        trust: see `trusted_names`.

    Raises:
        StudyError: it tells others apart.
    """
    setup = configured(name, changes, trusted_names([name], trust=trust))
    dataset = data.load(setup.data.model_copy(update={"source": data_name}))
    classes, path = len(dataset.categories), "detector.num_classes"
    if not is_saved(name) and path not in changes:
        setup = knobs.turn(setup, {path: classes})
    studies.check_size(setup.detector)
    detector = detectors.create(setup.detector, weights=weights_of(name, weights))
    known = detector.config.num_classes
    if known != classes:
        raise StudyError(
            f"{name} tells {known} classes apart, data set {dataset.name} has {classes}; "
            "name weights that were trained on it, or --set detector.num_classes"
        )
    return detector, dataset, setup


def is_saved(name: str) -> bool:
    """Say whether a name is that of a folder that a training saved a detector in."""
    return Path(name, detector_weights.CONFIG_FILE).is_file()


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
