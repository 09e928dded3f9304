"""Opens the Optuna study behind a study, unless it is somebody else's."""

from __future__ import annotations

import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine import entries, owner
from harness.engine.agenda import Agenda
from harness.engine.storage import FILE, StorageError
from harness.records import RecordError, record, write_whole

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

TOKEN = ".study"  # file that tells a folder's study from one of the same name elsewhere


def make_folder(folder: Path) -> Path:
    """Make the folder of a study's records, unless it is there.

    Raises:
        RecordError: nothing can be written there, or somebody else's files lie there.
    """
    record.make_folder(folder)
    ours = (folder / name for name in (TOKEN, FILE))  # the second alone in folders of before
    if any(file.exists() for file in ours) or next(folder.glob(f"*/{record.FILE}"), None):
        return folder
    strange = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    if strange:
        raise RecordError(
            f"{folder}: holds something else than a study's records ({strange[0]}); name another"
            " folder with --out, or the study differently"
        )
    return folder


def open_study(agenda: Agenda, folder: Path, storage: BaseStorage) -> Study:
    """Open a study; one of another version is made anew, to be filled from the records.

    Args:
        agenda: what is to be run.
        folder: of the records.
        storage: that holds the study, or will.

    Raises:
        StorageError: the study is another's, or a driver is at work on another version of it.
    """
    import optuna  # slow to import

    plain = optuna.samplers.RandomSampler()  # a search sets another
    name, wanted = agenda.study, _identity(agenda)
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage, sampler=plain)
        _check_token(study, folder)
        if study.user_attrs.get("identity") == wanted:
            return study
        _check_unused(study, folder, storage)
        optuna.delete_study(study_name=name, storage=storage)
    directions = [*agenda.directions.values()]
    study = optuna.create_study(
        storage=storage, study_name=name, sampler=plain, directions=directions
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(agenda.directions))
    study.set_user_attr("token", _token(folder))
    study.set_user_attr("identity", wanted)
    return study


def _identity(agenda: Agenda) -> dict[str, Any]:
    """Return what all entries of a study have to share."""
    directions = [list(item) for item in agenda.directions.items()]
    found = {"directions": directions, "space": agenda.space}
    return found | ({"version": agenda.snapshot.version} if agenda.snapshot else {})


def _token(folder: Path) -> str:
    file = folder / TOKEN
    if file.is_symlink() or not file.is_file():  # a link would put a file of the user's into it
        write_whole(file, uuid.uuid4().hex)
    return file.read_text(encoding="utf-8")


def _check_token(study: Study, folder: Path) -> None:
    token = _token(folder)
    if study.user_attrs.get("token", token) != token:
        raise StorageError(
            f"the storage holds another study named {study.study_name!r}, whose records are not"
            f" in {folder}; name yours differently, or use the --out of that one"
        )


def _check_unused(study: Study, folder: Path, storage: BaseStorage) -> None:
    silent = storage._get_stale_trial_ids(study._study_id)  # type: ignore[attr-defined]
    for item in study.get_trials(deepcopy=False):
        who = entries.owner_of(item)
        running = item.state.name == "RUNNING"
        if running and who and not owner.is_gone(who, silent=item._trial_id in silent):
            raise StorageError(
                f"{folder}: another run, {who.title}, is at work on another version of this study,"
                " of other values, settings or objectives; let it end"
            )
