"""Records, the whole result of a trial each, and the progress of one under way."""

from harness.records.collection import Records, load
from harness.records.record import (
    FILE,
    METRICS,
    OF_TRAINING,
    SCHEMA,
    Failure,
    Name,
    Record,
    RecordError,
    artifact,
    digest,
    make_folder,
    read,
    read_all,
    write_whole,
)

__all__ = [
    "FILE",
    "METRICS",
    "OF_TRAINING",
    "SCHEMA",
    "Failure",
    "Name",
    "Record",
    "RecordError",
    "Records",
    "artifact",
    "digest",
    "load",
    "make_folder",
    "read",
    "read_all",
    "write_whole",
]
