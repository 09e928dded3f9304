"""The old name of `harness.records`, which other programs import."""

from harness.records import (
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
