"""Records, the whole result of a trial each, and the progress of one under way."""

from harness.records.record import (
    FILE,
    METRICS,
    SCHEMA,
    Failure,
    Record,
    RecordError,
    digest,
    make_folder,
    read,
    read_all,
    write_whole,
)

__all__ = [
    "FILE",
    "METRICS",
    "SCHEMA",
    "Failure",
    "Record",
    "RecordError",
    "digest",
    "make_folder",
    "read",
    "read_all",
    "write_whole",
]
