"""Detections beside a record: compact, exact, and enough to compute every figure again."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.records import RecordError, files

FILE = "detections.npz"
LARGEST = 1 << 32  # bytes unpacked: a hundred million detections
KEYS = ("image_id", "category_id", "bbox", "score")
NAMES = "category_names"
REMEDY = "remove the trial's folder, and the next run makes it anew"

Array = NDArray[Any]


def write(
    detections: Sequence[dict[str, Any]], folder: Path, names: Mapping[int, str] | None = None
) -> Path:
    """Write COCO results into a trial's folder, in their order and without loss.

    Numbers are kept in the narrowest type that holds them all exactly: in single precision what
    `harness.measure.accuracy.evaluate` finds, in double precision what others found with more
    digits.

    Args:
        detections: COCO results with `image_id`, `category_id`, `bbox` xywh, and `score`.
        folder: the trial's.
        names: of the classes by category id; None leaves them unknown.
    """
    columns = {key: np.array([item[key] for item in detections]) for key in KEYS}
    extra: dict[str, Any] = {} if names is None else {NAMES: _text(names)}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        image_id=columns["image_id"].astype(np.int64),
        category_id=columns["category_id"].astype(np.int64),
        bbox=_narrow(columns["bbox"].astype(np.float64).reshape(-1, 4)),
        score=_narrow(columns["score"].astype(np.float64)),
        **extra,
    )
    path = folder / FILE
    with files.whole(path) as file:
        file.write(buffer.getvalue())
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Read COCO results from their file, or from the trial's folder.

    Raises:
        RecordError: there are none, or the file is damaged.
    """
    file = path / FILE if path.is_dir() else path
    try:
        content = io.BytesIO(file.read_bytes())
        with zipfile.ZipFile(content) as packed:
            unpacked = sum(item.file_size for item in packed.infolist())
        if unpacked > LARGEST:
            raise RecordError(f"{file}: unpacks to {unpacked:,} bytes, more than detections take")
        content.seek(0)
        with np.load(content) as stored:
            columns = [stored[key] for key in KEYS]
    except FileNotFoundError as error:
        raise RecordError(f"{file}: no detections are stored; {REMEDY}") from error
    except RecordError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError,
            zipfile.BadZipFile, zlib.error, NotImplementedError) as error:  # fmt: skip
        raise RecordError(f"{file}: damaged, or no file of detections; {REMEDY}") from error
    _check(file, columns)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [dict(zip(KEYS, row, strict=True)) for row in rows]


def read_names(path: Path) -> dict[int, str] | None:
    """Return the names of classes by category id, from a file that `read` reads.

    Returns:
        None where the file does not name them.
    """
    file = path / FILE if path.is_dir() else path
    with np.load(io.BytesIO(file.read_bytes())) as stored:
        if NAMES not in stored.files:
            return None
        try:
            return {int(key): str(name) for key, name in json.loads(stored[NAMES].tobytes())}
        except (ValueError, TypeError) as error:
            raise RecordError(f"{file}: {NAMES!r} is no list of classes; {REMEDY}") from error


def _text(names: Mapping[int, str]) -> Array:
    """Return names as bytes, which need no pickle whatever they hold."""
    return np.frombuffer(json.dumps(list(names.items())).encode(), np.uint8)


def _narrow(values: Array) -> Array:
    """Return single precision where that loses nothing."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if np.array_equal(single, values) else values


def _check(file: Path, columns: Sequence[Array]) -> None:
    """Refuse arrays that do not belong together."""
    count = len(columns[0]) if columns[0].ndim else 0
    shapes = [column.shape for column in columns]
    kinds = "".join(column.dtype.kind for column in columns)
    if shapes != [(count,), (count,), (count, 4), (count,)] or kinds != "iiff":
        raise RecordError(f"{file}: arrays {shapes} of kinds {kinds} are no detections; {REMEDY}")
