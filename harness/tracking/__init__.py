"""Sends records to MLflow: an experiment and a parent run a study, a nested run a trial."""

from __future__ import annotations

from harness.tracking.marks import LOGGED_FILE, is_logged, logged
from harness.tracking.outbox import Outbox
from harness.tracking.tracker import DEFAULT_URI, Tracker, uri

__all__ = ["DEFAULT_URI", "LOGGED_FILE", "Outbox", "Tracker", "is_logged", "logged", "uri"]
