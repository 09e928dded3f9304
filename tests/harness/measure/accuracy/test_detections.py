"""Stored detections come back as they were, and a damaged file is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measure.accuracy.detections import FILE, KEYS, NAMES, read, read_names, write
from harness.measure.accuracy.evaluate import score
from harness.records import RecordError
from tests.harness.measure.accuracy import test_evaluate

number = st.floats(allow_nan=False, allow_infinity=False)
single = st.floats(allow_nan=False, allow_infinity=False, width=32)
REAL: dict[str, Any] = {
    "image_id": 7,
    "category_id": 3,
    "bbox": [1.5, 2.0, 3.0, 4.25],
    "score": 0.5,
}


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2**53),
            st.integers(0, 2**31),
            st.lists(number | single, min_size=4, max_size=4),
            number,
        )
    )
)
def test_every_number_and_the_order_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    detections = [dict(zip(KEYS, row, strict=True)) for row in rows]
    folder = tmp_path_factory.mktemp("trial")
    assert read(write(detections, folder)) == detections
    assert read(folder) == detections


def test_single_precision_takes_half_the_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 640, (2000, 4)), rng.random(2000)
    sizes = []
    for kind in (np.float32, np.float64):
        columns = zip(boxes.astype(kind).tolist(), scores.astype(kind).tolist(), strict=True)
        found = [{**REAL, "bbox": box, "score": value} for box, value in columns]
        sizes.append(write(found, tmp_path).stat().st_size)
        assert read(tmp_path) == found
        text = gzip.compress(json.dumps(found, separators=(",", ":")).encode())
        assert sizes[-1] < len(text)
    assert sizes[0] < 0.55 * sizes[1]


def test_equal_detections_give_equal_files(tmp_path: Path) -> None:
    first = write([REAL], tmp_path).read_bytes()
    assert write([REAL], tmp_path).read_bytes() == first


@pytest.mark.parametrize("case", test_evaluate.CASES)
def test_figures_from_the_file_are_equal_to_the_last_bit(
    shared: Path, tmp_path: Path, case: str
) -> None:
    truth = test_evaluate.read(shared / "evaluator" / case / "gt.json")
    found = test_evaluate.read(shared / "evaluator" / case / "detections.json")
    write(found, tmp_path)
    assert score(truth, read(tmp_path)) == score(truth, found)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_ends_early_is_named(tmp_path: Path, share: float) -> None:
    file = write([REAL] * 50, tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RecordError, match=rf"{FILE}: damaged, .*; remove the trial's folder"):
        read(tmp_path)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    file = write([{**REAL, "score": i / 512} for i in range(50)], tmp_path)
    content = bytearray(file.read_bytes())
    start = content.index(b"score.npy") + 60
    content[start] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(RecordError, match="damaged"):
        read(tmp_path)


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    arrays = {"image_id": np.arange(3), "category_id": np.arange(3)}
    np.savez(tmp_path / FILE, **arrays, bbox=np.zeros((2, 4)), score=np.zeros(3))
    with pytest.raises(RecordError, match=r"\(2, 4\).* are no detections"):
        read(tmp_path)
    np.savez(tmp_path / FILE, **arrays)
    with pytest.raises(RecordError, match="no file of detections"):
        read(tmp_path)


def test_classes_are_named_beside_the_detections(tmp_path: Path) -> None:
    assert read_names(write([REAL], tmp_path)) is None
    names = {3: "bolt, small = 5", 7: "Mutter ü \ud83d", -1: ""}
    assert read_names(write([REAL], tmp_path, names)) == names
    assert read_names(tmp_path) == names
    assert read(tmp_path) == [REAL]
    with np.load(tmp_path / FILE) as stored:
        columns = dict(stored)
    np.savez(tmp_path / FILE, **columns | {NAMES: np.frombuffer(b"[1]", np.uint8)})
    with pytest.raises(RecordError, match="no list of classes"):
        read_names(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=rf"{FILE}: no detections are stored"):
        read(tmp_path)
