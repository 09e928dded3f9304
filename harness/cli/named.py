"""What a command line names: found, or refused, before anything is imported that takes seconds.

Every command looks here first, and no function here imports torch. Those that do the work come
to the same places once more, so that what is refused and how it is said is written down once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import detectors
from detectors import RELEASES, WeightsError
from harness import adapters, released
from harness import study as studies
from harness.analysis.reproduce import tables
from harness.analysis.reproduce.schema import Table
from harness.cli.folders import check_folder
from harness.config import knobs, library, places
from harness.config.data import COCO2017, SHAPES, DataError
from harness.config.knobs import Setup
from harness.config.offers import offer
from harness.config.runtime import Name, RuntimeConfig
from harness.records import FILE
from harness.study import Study, StudyError
from harness.study.study import as_weights

OF_FRONTIER = "frontier."  # how the axes of `measure --nms-frontier` begin, which are no knobs


def check_study(name: str, data: str | None, sets: Sequence[str]) -> None:
    """Refuse a study that cannot be run, as far as names, knobs, values and places go.

    Args:
        name: a file, or a name under studies/.
        data: a data set in place of its own.
        sets: `PATH=VALUE`.

    Raises:
        StudyError: a key, a knob, a value or weights.
        DataError: a data set that is not there.
    """
    check_start(studies.load(name, data=data, sets=sets))


def check_start(study: Study) -> None:
    """Refuse what a study starts from that is not there: its weights, or its data set.

    Raises:
        StudyError: the weights.
        DataError: the data set.
    """
    for written in study.all_named("weights"):
        given = as_weights(written)
        if given is not None and given.source not in RELEASES:
            try:
                released.own_file(given.source)
            except WeightsError as error:
                raise StudyError(f"{study.place_of_weights(written)}: {error}") from error
    places.check(study.data, "train", "val")


def check_records(name: str, out: Path, data: str | None = None, sets: Sequence[str] = ()) -> Path:
    """Refuse a name that is neither a folder of records nor that of a study.

    Args:
        name: as the command line has it.
        out: holds a folder a study.
        data: a data set in place of the study's own.
        sets: `PATH=VALUE`.

    Returns:
        The folder in which its records are, if there are any.

    Raises:
        StudyError: there is no such study, or it cannot be.
    """
    known = folder_of(name, out)
    return out / studies.load(name, data=data, sets=sets).name if known is None else known


def check_published(
    name: str, data: str | None, sets: Sequence[str], runs: Path | None, *, will_run: bool
) -> None:
    """Refuse a published table that there is not, and changes to what repeats it that cannot be.

    Args:
        name: of a table, a paper, or `all`.
        data: a data set in place of the studies' own.
        sets: `PATH=VALUE`.
        runs: the folder of the records; None for the usual one, which need not be there.
        will_run: whether the tables' own studies are to be run, so that their data has to be there.
    """
    found = tables.named(name)
    if runs is not None and not runs.is_dir():
        raise StudyError(f"--runs {runs}: no such folder")
    if data is not None:
        places.check(data, "train", "val")
    if will_run and data is None and not all(table.study or table.outside for table in found):
        places.check(COCO2017, "train", "val")
    for detector, recipe, own in dict.fromkeys(_repeated(found)):
        measure = ["complexity", *(["accuracy"] if recipe else [])]
        studies.of_detectors("t", [detector], measure, recipe_name=recipe, sets=(*own, *sets))
    for study in dict.fromkeys(table.study for table in found if table.study):
        loaded = studies.load(study, data=data, sets=sets)
        if will_run:
            check_start(loaded)


def _repeated(found: Sequence[Table]) -> Iterator[tuple[str, str | None, tuple[str, ...]]]:
    """Yield what repeats rows without a study: a detector, its recipe, and the knobs turned."""
    for table in found:
        for row in table.rows:
            every = [row.repeat, *row.repeats.values()] if table.outside is None else []
            for repeat in every:
                if repeat is not None and repeat.detector is not None:
                    yield repeat.detector, repeat.recipe, tuple(repeat.sets)


def check_models(
    names: Sequence[str],
    sets: Sequence[str] | None = None,
    *,
    weights: str | None = None,
    data: str | None = None,
    split: str = "val",
    trust: bool = False,
) -> None:
    """Refuse detectors that there are not, knobs that they lack, and files that are missing.

    Args:
        names: of detectors, or folders of saved ones.
        sets: `PATH=VALUE`.
        weights: of the only model, or the name of a release that all have.
        data: where images come from; None where nothing is read.
        split: of it.
        trust: whether folders may name detectors that are not built in; see `trusted_names`.
    """
    if weights not in (None, *RELEASES) and len(names) > 1:
        raise StudyError("--weights goes with one MODEL, unless it is the name of a release")
    trusted = trusted_names(names, trust=trust)
    turned = studies.changes(sets or ())
    turned = {path: value for path, value in turned.items() if not path.startswith(OF_FRONTIER)}
    for name in names:
        studies.check_size(configured(name, turned, trusted).detector)
    if weights is not None and weights not in RELEASES:
        detectors.weights_file(os.path.expanduser(weights))
    if data is not None:
        places.check(data, split)


def check_results(
    names: Sequence[str], data: str | None, split: str = "val", out: Path | None = None
) -> None:
    """Refuse files of results that are not there, or data that they cannot be scored on.

    Args:
        names: of the files.
        data: a data set, whose images need not be there, or an annotation file.
        split: of the data set.
        out: a folder for the record; None for none.
    """
    if data is None:
        raise StudyError(
            f"{names[0]}: name what it was found in with --data, a data set or an annotation file"
        )
    for name in names:
        places.alone(name)
    places.check_truth(data, split)
    if out is not None:
        check_folder(out)


def check_data(name: str, sets: Sequence[str] | None, split: str | None) -> None:
    """Refuse a data set that is not there, or knobs that it lacks.

    Args:
        name: of the data set.
        sets: `PATH=VALUE`.
        split: the only one that is looked at; None for those that a training needs.
    """
    knobs.turn(knobs.start(None, None, name), studies.changes(sets or ()))
    places.check(name, *([split] if split else ["train", "val"]))


def check_gettable(name: str) -> None:
    """Refuse a data set that is not known by an address.

    Raises:
        DataError: it is not.
    """
    if name != COCO2017:
        raise DataError(
            f"data get {name}: {COCO2017} is the only one to get; {SHAPES} is rendered on the spot,"
            " and any other data set is a folder of your own"
        )


def trusted_names(models: Sequence[str], *, trust: bool) -> set[str]:
    """Return the detectors whose code may run.

    Args:
        models: as the command line names them; a detector that it names itself is trusted, and so
            are the folders that name the same one.
        trust: whether those are, too, that other folders name.
    """
    folders = {name for name in models if is_saved(name)}
    given = set(models) - folders
    return given | {detectors.saved_name(Path(name)) for name in folders if trust}


def configured(name: str, changes: Mapping[str, Any], trusted: Collection[str] = ()) -> Setup:
    """Return the setup of a detector by name, or of one that a training saved in a folder.

    Args:
        name: of a detector or a folder.
        changes: knobs to turn.
        trusted: from `trusted_names`.
    """
    if is_saved(name):
        config = adapters.saved_config(Path(name), trusted)
    elif adapters.is_foreign(name):
        config = adapters.resolve(name)
    elif os.path.isdir(name) and name not in detectors.names():
        raise StudyError(
            f"{name}: a folder without {detectors.CONFIG_FILE}; name one that train left, or"
            " a detector and its --weights"
        )
    elif os.sep in name and ":" not in name:
        beside = [str(path) for path in Path(name).parent.glob("*") if is_saved(str(path))]
        near = knobs.nearest(os.path.normpath(name), beside)
        raise StudyError(f"{name}: no such folder{near} name one that train left")
    else:
        config = adapters.resolve(name)
    return knobs.turn(knobs.start(config, None, "shapes"), changes)


def is_saved(name: str) -> bool:
    """Say whether a name is that of a folder that a training saved a detector in."""
    return os.path.isfile(Path(name, detectors.CONFIG_FILE))  # False also if it is too long


def named_runtimes(names: Sequence[str]) -> list[Name | None]:
    """Return runtimes by name, each once; None, which is that of the knobs, where none is named."""
    known = get_args(Name)
    for name in names:
        if name not in known:
            raise StudyError(f"--runtimes: there is no runtime {name!r}{offer(name, known)}")
    found = [RuntimeConfig.model_validate({"runtime": name}).runtime for name in names]
    return [*dict.fromkeys(found)] or [None]


def folder_of(name: str, out: Path) -> Path | None:
    """Return the folder of records that a name means by itself; None where a study's file has it.

    Args:
        name: as the command line has it: a folder, or the name of a study that was run.
        out: holds a folder a study.
    """
    if Path(name).is_dir():
        return Path(name)
    has_file = Path(name).is_file() or name in library.names()
    was_run = next((out / name).glob(f"[!.]*/{FILE}"), None) is not None
    return out / name if was_run and not has_file else None


def check_not_empty(folder: Path) -> None:
    """Refuse a folder in which no record lies.

    Raises:
        StudyError: there is none.
    """
    if next(folder.glob(f"[!.]*/{FILE}"), None) is None:
        raise without_records(folder)


def without_records(folder: Path) -> StudyError:
    """Say that no record is there."""
    return StudyError(f"{folder}: no records there; run the study first")
