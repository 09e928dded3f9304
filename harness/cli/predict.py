"""`detbench predict`: what detectors find in photographs, drawn and as COCO results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from detectors.interface import Detector
from harness import adapters, data
from harness import study as studies
from harness.adapters import classes as adapters_classes
from harness.cli import console
from harness.cli.album import PICTURES, Album
from harness.cli.console import print_json
from harness.cli.folders import refuse_taken
from harness.cli.models import (
    counted,
    created,
    note,
    one_line,
    weights_of,
)
from harness.cli.named import configured, trusted_names
from harness.cli.text import say
from harness.config.knobs import Setup
from harness.config.photographs import find
from harness.data import Category, Split, classes, photographs
from harness.data.classes import Choice, Known
from harness.data.photographs import Chunk
from harness.machine.locks import sharing
from harness.measure.accuracy import evaluate as evaluation
from harness.records import record
from harness.records.progress import Progress
from harness.study import StudyError
from harness.study.start import known_classes

BATCH = 8  # photographs at once, as in an evaluation
FILES = ("detections.json", "detections-against.json")
IMAGES = "images.json"


class Named(NamedTuple):
    """A model as the command line names it."""

    name: str
    weights: str | None

    @property
    def title(self) -> str:
        """What stands above its pictures."""
        return self.name if self.weights is None else f"{self.name}, {Path(self.weights).name}"


class Options(NamedTuple):
    """What the command line says beside models and photographs."""

    out: Path
    sets: Sequence[str]
    device: str
    score: float  # boxes below are not drawn
    classes: Sequence[str]
    pictures: bool
    trust: bool


class Model(NamedTuple):
    """A trained detector."""

    title: str
    detector: Detector
    setup: Setup
    known: Known


class Plan(NamedTuple):
    """What is looked at, and what the classes are."""

    split: Split
    categories: tuple[Category, ...]
    ids: Sequence[tuple[int | None, ...]]  # category id of each label, by model; None: left out
    notes: list[str]


def predict(
    models: Sequence[Named],
    images: Sequence[str],
    data_name: str | None,
    split: str,
    options: Options,
    *,
    as_json: bool,
) -> int:
    """Find objects in photographs with one detector, or with two side by side.

    Args:
        models: one or two.
        images: files, folders and patterns; none where a split is looked at.
        data_name: of the data set.
        split: of it.
        options: all else.
        as_json: whether to print JSON.

    Returns:
        1 if a photograph could not be read, else 0.

    Raises:
        StudyError: a model is untrained, or `out` holds something.
        DataError: there are no such photographs.
        ClassError: the classes of the weights are not those of the data set, or unknown.
    """
    refuse_taken(options.out, "predict")
    files = find(images) if data_name is None else []
    opened = [_open(model, models, options) for model in models]
    if data_name is None:
        plan = _of_files(files, opened)
    else:
        plan = _of_split(data_name, split, opened, options)
    note(console.stderr(), () if as_json else plan.notes)
    album = Album(
        record.make_folder(options.out),
        [model.title for model in opened],
        plan.categories,
        options.score if options.pictures else None,
    )
    results = _look(plan, opened, album, options.device)
    kept = {options.out / file: rows for file, rows in zip(FILES, results, strict=False)}
    for path, rows in kept.items():
        record.write_whole(path, json.dumps(rows))
    record.write_whole(options.out / IMAGES, json.dumps(album.document(), indent=1))
    counts = {str(path): len(rows) for path, rows in kept.items()}
    if as_json:
        print_json({**album.summary(), "detections": counts, "notes": plan.notes})
    else:
        _show(album, counts, options.out)
    return 1 if album.unreadable else 0


def _open(model: Named, models: Sequence[Named], options: Options) -> Model:
    """Make a trained detector.

    Raises:
        StudyError: it is untrained.
    """
    trusted = trusted_names([item.name for item in models], trust=options.trust)
    changes = studies.changes(options.sets)
    setup = configured(model.name, changes, trusted)
    source = weights_of(*model, setup.detector)
    brought = adapters_classes.known(setup.detector)
    if source is None and brought is None:
        option = "--weights" if model is models[0] else "--against-weights"
        raise StudyError(
            f"{model.name} is untrained, so its boxes would say nothing; name weights with"
            f" {option}, or a folder that a training saved"
        )
    setup = counted(model.name, setup, changes, source, setup.detector.num_classes)
    studies.check_size(setup.detector)
    detector = created(model.name, setup, source)
    deployed = detector.deploy().to(options.device)
    note(console.stderr(), adapters.notes(detector.config))
    known = brought or known_classes(str(source), detector.config)
    return Model(model.title, deployed, setup, known)


def _of_files(files: Sequence[Path], models: Sequence[Model]) -> Plan:
    """Plan to look at files; classes of one name have one id, counted from 1."""
    notes, ids, places = [], [], dict[str, int]()
    for model in models:
        known = model.known
        names = known.names or tuple(map(str, range(known.num_labels)))
        ids.append(tuple(places.setdefault(name, len(places) + 1) for name in names))
        if known.names is None:
            notes.append(
                f"{known.owner} does not name its {known.num_labels} classes: they are numbered"
            )
        notes += [known.note] if known.note else []
    categories = tuple(Category(key, name) for name, key in places.items())
    return Plan(photographs.loose(files, categories), categories, ids, notes)


def _of_split(data_name: str, name: str, models: Sequence[Model], options: Options) -> Plan:
    """Plan to look at a split of a data set, whose classes have the ids that they have there."""
    choice: Choice = classes.read_choice(options.classes, shared=True)
    where = models[0].setup.data.model_copy(update={"source": data_name})
    own_name, split = data.open_split(where, name, in_order=choice.in_order)
    wanted = [category.name for category in split.categories]
    matched = [classes.match(model.known, own_name, wanted, choice) for model in models]
    ids = [classes.seen_by(split, item).ids_found for item in matched]
    notes = dict.fromkeys(text for item in matched for text in item.notes)
    return Plan(split, split.categories, ids, list(notes))


def _look(
    plan: Plan, models: Sequence[Model], album: Album, device: str
) -> list[list[dict[str, Any]]]:
    """Find objects, as an evaluation does, and draw them.

    Returns:
        COCO results of each model.
    """
    results: list[list[dict[str, Any]]] = [[] for _ in models]
    titles = " and ".join(album.titles)
    with one_line(titles, None) as show, sharing(device, show) as on_progress:
        for chunk in photographs.chunks(plan.split, BATCH):
            for text in chunk.unreadable:
                console.stderr().print(f"left out: {text}", soft_wrap=True)
            found = [
                _detect(model, chunk, ids, device)
                for model, ids in zip(models, plan.ids, strict=True)
            ]
            album.take(chunk, found)
            for before, rows in zip(results, found, strict=True):
                before += rows
            on_progress(Progress("predict", chunk.done, len(plan.split), {}))
    return results


def _detect(
    model: Model, chunk: Chunk, ids: tuple[int | None, ...], device: str
) -> list[dict[str, Any]]:
    """Return what one model finds in a few photographs."""
    if not len(chunk.split):
        return []
    split = replace(chunk.split, found_ids=ids)
    batches = evaluation.detect(model.detector, split, device=device, batch_size=BATCH, workers=0)
    return [item for batch in batches for item in batch.results]


def _show(album: Album, counts: Mapping[str, int], out: Path) -> None:
    """Say what was found and where it lies."""
    found = album.summary()
    for title, (path, count) in zip(album.titles, counts.items(), strict=True):
        say(f"{title}: {count} boxes in {found['images']} images: {path}")
    say(f"the images' ids, names and sizes, and the classes: {out / IMAGES}")
    if album.score is not None:
        say(f"pictures, with {found['drawn']} boxes of score {album.score:g} or more:"
            f" {out / PICTURES}")  # fmt: skip
    if album.unreadable:
        say(f"left out, as they cannot be read: {len(album.unreadable)}")
