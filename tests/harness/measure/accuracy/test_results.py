"""Files of results: read as they are, or refused in one line that names the entry."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.data import DataError
from harness.measure.accuracy import results
from tests.harness.detecting import detect, scenes

SPLIT = scenes(np.random.default_rng(0), 3)
FOUND = detect(np.random.default_rng(1), SPLIT)
BAD: dict[str, tuple[Any, str]] = {
    "no list": ({"annotations": []}, "an annotation file, and no results"),
    "a number": (7, "JSON, and no results; COCO's results are a list of"),
    "empty": ([], "an empty list; there is nothing to score"),
    "no object": ([FOUND[0], 3], "entry 1 has no 'image_id'"),
    "no scores": (
        [{k: v for k, v in row.items() if k != "score"} for row in FOUND],
        f"entry 0 (and {len(FOUND) - 1} more) has no 'score'",
    ),
    "no box": ([{**FOUND[0], "bbox": [1, 2, 3]}], "entry 0 has a bbox that is not"),
    "a box of text": ([{**FOUND[0], "bbox": "1234"}], "four numbers, no side below 0: '1234'"),
    "a box of NaN": (
        [FOUND[0], {**FOUND[0], "bbox": [1, 2, float("nan"), 4]}],
        "entry 1 has a bbox that is not [x, y, width, height]",
    ),
    "a negative side": ([{**FOUND[0], "bbox": [9, 9, -3, 4]}], "no side below 0: [9, 9, -3, 4]"),
    "a score of NaN": ([{**FOUND[0], "score": float("nan")}], "a score that is no number: nan"),
    "a score of text": ([{**FOUND[0], "score": "0.5"}], "a score that is no number: '0.5'"),
    "another image": (
        [FOUND[0], {**FOUND[0], "image_id": 99}],
        "entry 1 has image_id 99, which none of the 3 in instances_val.json has",
    ),
    "another class": (
        [{**FOUND[0], "category_id": 0}],
        "entry 0 has category_id 0, which none of the 4 in",
    ),
    "an id of text": ([{**FOUND[0], "image_id": "1"}], "has image_id '1', which none"),
}


@pytest.mark.parametrize("packed", [False, True])
def test_what_was_found_is_read_in_its_order_without_what_else_there_is(
    tmp_path: Path, packed: bool
) -> None:
    text = json.dumps([{**row, "segmentation": [], "id": 3} for row in FOUND]).encode()
    file = tmp_path / "found.json"
    file.write_bytes(gzip.compress(text) if packed else text)
    assert results.read(file, SPLIT) == FOUND


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_scored_is_refused_in_a_line(tmp_path: Path, case: str) -> None:
    content, words = BAD[case]
    file = tmp_path / "found.json"
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(DataError) as error:
        results.read(file, SPLIT)
    assert str(error.value).startswith(f"{file}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"not JSON", b"\x1f\x8bnot gzip", b"\xff\xfe", b""])
def test_what_is_no_json_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "found.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match="not JSON") as error:
        results.read(file, SPLIT)
    assert "\n" not in str(error.value)
