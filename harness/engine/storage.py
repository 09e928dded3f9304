"""Opens the Optuna storage that holds the state of studies."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.config.secrets import masked
from harness.config.yaml_source import StudyError
from harness.records import artifact

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

FILE = "study.db"  # in the folder of a study, unless --storage names another place
HEARTBEAT_SECONDS, GRACE_SECONDS = 20, 120
SECONDS_FOR_A_LOCK = 60
SECONDS_OF_PATIENCE = 300.0
LONGEST_PAUSE = 20.0

T = TypeVar("T")


class StorageError(StudyError):
    """A storage that cannot be used."""


def url(given: str | None, folder: Path) -> str:
    """Return where a study's state is kept: the given place, or a file beside the records."""
    if given:
        return given
    from sqlalchemy import URL  # slow to import

    file = URL.create("sqlite", database=str(artifact(folder, FILE).resolve()))
    return file.render_as_string(hide_password=False)


def open_storage(where: str) -> RDBStorage:
    """Open a storage, which is made if need be.

    Args:
        where: SQLAlchemy's URL, e.g. `postgresql+psycopg://user@host/database`.

    Raises:
        StorageError: nothing can be kept there, or another version of Optuna wrote it.
    """
    import optuna  # slow to import

    optuna.logging.set_verbosity(logging.WARNING)
    optuna.logging.disable_propagation()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = optuna.storages.RDBStorage(
                where.replace("{", "{{").replace("}", "}}"),  # Optuna fills in its version
                engine_kwargs=_engine(where),
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
            )
    except Exception as error:  # of SQLAlchemy, of the database's driver, or of Optuna
        raise StorageError(_explain(where, error)) from error
    _speed_up(storage)
    return storage


def _engine(where: str) -> dict[str, Any]:
    if where.startswith("sqlite"):
        return {"connect_args": {"timeout": SECONDS_FOR_A_LOCK}}
    return {"pool_pre_ping": True}


def _speed_up(storage: RDBStorage) -> None:
    """Let a file be written without waiting for the disk: what is lost follows from the records."""
    from sqlalchemy import event  # slow to import

    if storage.engine.dialect.name != "sqlite":
        return

    def relax(connected: Any, _: object) -> None:
        connected.execute("PRAGMA synchronous=OFF")

    storage.scoped_session.remove()
    storage.engine.dispose()
    event.listen(storage.engine, "connect", relax)


def _explain(where: str, error: Exception) -> str:
    text = _short(error)
    if "no longer compatible" in text or "Please try" in text:
        hint = "use the version of Optuna that wrote it, or `optuna storage upgrade --storage URL`"
    elif where.startswith("sqlite"):
        hint = "remove the file, and the next run makes it anew from the records"
    else:
        hint = "is the database there, and is its driver installed?"
    return masked(f"--storage {_shown(where)}: {text}; {hint}", where)


def _shown(where: str) -> str:
    """Name a storage for people: a file by its path."""
    from sqlalchemy import make_url  # slow to import
    from sqlalchemy.exc import ArgumentError  # slow to import

    try:
        parts = make_url(where)
    except (ArgumentError, ValueError):
        return where
    is_file = parts.drivername.startswith("sqlite") and parts.database
    return str(parts.database) if is_file else parts.render_as_string()


def _short(error: BaseException) -> str:
    """Return the first line of what a database says: SQLAlchemy adds pages."""
    origin = getattr(error, "orig", None) or error
    text = str(origin).strip().partition("\n")[0].rstrip(".")
    return masked(text) or type(error).__name__


def patiently(work: Callable[[], T], warn: Callable[[str], None]) -> T:
    """Do something with a storage, again and again while it is away.

    Raises:
        StorageError: it is away for too long, or full.
    """
    from optuna.exceptions import StorageInternalError  # slow to import
    from sqlalchemy.exc import DBAPIError  # slow to import

    pause, until = 1.0, time.monotonic() + SECONDS_OF_PATIENCE
    while True:
        try:
            return work()
        except (DBAPIError, StorageInternalError) as error:
            text = _short(error.__cause__ or error)
            if "full" in text or time.monotonic() + pause > until:
                raise StorageError(f"the study's storage cannot be used: {text}") from error
            if pause == 1.0:
                warn(f"the study's storage is away ({text}); trying again")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
