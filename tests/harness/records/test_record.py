import json
import math
from pathlib import Path

import pytest

from harness.records import Failure, Record, RecordError, record


def make(trial: str = "abc", started: float = 1.0) -> Record:
    return Record(
        study="toy",
        trial=trial,
        name="width=4",
        detector="tests.toy:TOY",
        overrides={"detector.width": 4},
        config={"detector.width": 4, "detector.input.size": [64, 64]},
        seed=0,
        state="done",
        metrics={"mAP": 0.5},
        timings={"started": started},
    )


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    before = make()
    before.failure = Failure(cause="crash", message="gone")
    before.write(tmp_path / "abc")
    assert record.read(tmp_path / "abc") == before
    assert record.read(tmp_path / "abc" / record.FILE) == before


def test_the_file_names_its_schema_and_is_strict_json(tmp_path: Path) -> None:
    before = make()
    before.curves = [{"epoch": 1, "loss": math.nan}]
    file = before.write(tmp_path)

    def no_constants(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    tree = json.loads(file.read_text("utf-8"), parse_constant=no_constants)
    assert tree["schema"] == record.SCHEMA
    assert math.isnan(record.read(tmp_path).curves[0]["loss"])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "Invalid JSON"),
        ('{"schema": 1}', "study"),
        (make().to_json().replace('"schema": 1', '"schema": 2'), "schema"),
        (make().to_json().replace('"study"', '"stdy"'), "study"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / record.FILE
    file.write_text(text, "utf-8")
    with pytest.raises(RecordError, match="not a record of schema 1") as info:
        record.read(file)
    assert part in str(info.value)
    assert "\n" not in str(info.value)


def test_records_are_read_in_order_of_start_without_trials_under_way(tmp_path: Path) -> None:
    make("b", started=1.0).write(tmp_path / "b")
    make("a", started=2.0).write(tmp_path / "a")
    make("c", started=0.0).write(tmp_path / ".partial-c")
    assert [item.trial for item in record.read_all(tmp_path)] == ["b", "a"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = record.write_whole(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        record.write_whole(file, "new \ud800")
    assert file.read_text("utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_a_digest_ignores_the_order_of_keys_alone() -> None:
    assert record.digest({"a": 1, "b": (1, 2)}) == record.digest({"b": [1, 2], "a": 1})
    assert record.digest({"a": 1}) != record.digest({"a": 2})
    assert len(record.digest({})) == 12
