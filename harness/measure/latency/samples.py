"""Raw samples beside a record: all that a latency session read, to derive its figures anew."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.measure.latency.derived import Timing
from harness.records import RecordError, files

FILE = "samples.npz"

Arrays = dict[str, NDArray[Any]]


def write(timings: Mapping[str, Timing], folder: Path, name: str = FILE) -> Path:
    """Write the samples of subjects that were timed together.

    Arrays are named `SUBJECT/PASS/METRIC`, [R, K] milliseconds by round and call;
    `SUBJECT/PASS/windows_ns`, int64 [R, 2], start and stop of a round's calls; and
    `SUBJECT/PASS/kept`, bool [R], whether figures are made from the round. The machine's
    conditions are `conditions/time_ns`, int64 [T] of the same clock, and `conditions/READING`,
    [T], NaN where it was not read.

    Args:
        timings: of subjects by name.
        folder: the trial's.
        name: of the file.
    """
    arrays = _conditions(next(iter(timings.values())))
    for subject, timing in timings.items():
        for key, blocks in timing.passes.items():
            place = f"{subject}/{key}"
            arrays |= {f"{place}/{name}": np.array(rows) for name, rows in blocks.samples.items()}
            arrays[f"{place}/windows_ns"] = np.array(blocks.windows, np.int64)
            arrays[f"{place}/kept"] = np.isin(np.arange(len(blocks.windows)), blocks.kept)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type, unused-ignore]
    with files.whole(folder / name) as file:  # another folder may have a link to the old one
        file.write(buffer.getvalue())
    return folder / name


def read(folder: Path, name: str = FILE) -> Arrays:
    """Read the samples beside a record, named as in `write`.

    Args:
        folder: the trial's.
        name: of the file, as the record's artifact `samples` says.

    Raises:
        RecordError: there are none.
    """
    path = folder / name
    try:
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no samples are stored; run the trial again") from error


def _conditions(timing: Timing) -> Arrays:
    watched = timing.watched
    names = sorted({name for sample in watched for name in sample.values})
    arrays: Arrays = {
        f"conditions/{name}": np.array([item.values.get(name, np.nan) for item in watched])
        for name in names
    }
    return arrays | {"conditions/time_ns": np.array([item.time_ns for item in watched], np.int64)}
