"""How MLflow is spoken to: quietly, nothing twice, patiently where a database is busy."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

SECONDS_TO_ANSWER = 10
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between attempts at a database that is locked

T = TypeVar("T")


def patiently(work: Callable[[], T]) -> T:
    """Try again while somebody else, such as a server on the same file, holds the database."""
    for pause in PAUSES:
        try:
            return work()
        except Exception as error:
            if "database is locked" not in str(error):
                raise
            time.sleep(pause)
    return work()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what MLflow and its database say off the terminal, and let it report to nobody.

    Requests are not repeated behind our back: a run whose creation was answered too late would be
    made twice. Whoever sends tries again, and finds what the first attempt left.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SECONDS_TO_ANSWER))
    level = logging.root.manager.disable
    logging.disable(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def client(tracker: str) -> Any:
    """Return MLflow's client of a tracker."""
    from mlflow import MlflowClient  # slow to import

    return MlflowClient(tracking_uri=tracker)


def make(url: str) -> None:
    """Make MLflow's tables in a database that has none."""
    client(url).search_experiments()
