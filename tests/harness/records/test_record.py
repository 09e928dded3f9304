import json
import math
import os
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


GOOD = json.loads(make().to_json())


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"study": "../page"}, "study"),
        ({"study": "a" * 151}, "study"),
        ({"trial": "/tmp/page"}, "trial"),
        ({"trial": "a\n"}, "trial"),
        ({"trial": "..", "artifacts": {}}, "trial"),
        ({"artifacts": {"weights": "/etc/hostname"}}, "artifacts"),
        ({"artifacts": {"weights": "a/b"}}, "artifacts"),
        ({"artifacts": {"weights": "a\\b"}}, "artifacts"),
        ({"artifacts": {"weights": ".."}}, "artifacts"),
        ({"artifacts": {"weights": ""}}, "artifacts"),
        ({"timings": {"started": 1e300}}, "started"),
        ({"curves": [{"step": math.inf}]}, "step"),
        ({"details": {"latency": 5}}, "latency"),
        ({"details": {"latency": {"candidates": {"median": "x"}}}}, "median"),
        ({"details": {"training": {"validated_with": []}}}, "validated_with"),
        ({"data": {"train": {"images": "many"}}}, "images"),
        ({"environment": {"packages": [1]}}, "packages"),
    ],
)
def test_a_record_that_leads_elsewhere_or_has_another_shape_is_refused(
    tmp_path: Path, changes: dict[str, object], where: str
) -> None:
    file = tmp_path / record.FILE
    file.write_text(json.dumps(GOOD | changes).replace("Infinity", '"Infinity"'), "utf-8")
    with pytest.raises(RecordError, match=where) as info:
        record.read(file)
    assert "\n" not in str(info.value)


def test_what_nobody_reads_may_have_any_shape(tmp_path: Path) -> None:
    free = {"latency": {"candidates": None, "workload": [1]}, "other": {"a": [None]}}
    (tmp_path / record.FILE).write_text(json.dumps(GOOD | {"details": free}), "utf-8")
    assert record.read(tmp_path).details == free


def test_an_artifact_lies_beside_its_record(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.write_text("secret", "utf-8")
    (folder / "weights").write_text("weights", "utf-8")
    (folder / "within").symlink_to("weights")
    (folder / "out").symlink_to(elsewhere)
    for name in ("weights", "within", "absent"):
        assert record.artifact(folder, name) == folder / name
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert record.artifact(linked, "weights").read_text("utf-8") == "weights"
    os.mkfifo(folder / "pipe")
    with pytest.raises(RecordError, match="is no file"):
        record.artifact(folder, "pipe")
    for name in ("out", "../elsewhere", str(elsewhere), "."):
        with pytest.raises(RecordError, match="leads out of its folder"):
            record.artifact(folder, name)


def test_a_record_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / record.FILE)
    with pytest.raises(RecordError, match="a record is a file of at most 256 MiB"):
        record.read(tmp_path)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_absent(odd: float, tmp_path: Path) -> None:
    """So that no table, order or answer meets it."""
    made = make()
    made.metrics |= {"latency_p99_ms": 12.0}
    made.metrics["mAP"] = odd  # as the JSON of another program may have it
    made.write(tmp_path)
    found = record.read(tmp_path)
    assert "mAP" not in found.metrics
    assert found.absent["mAP"] == f"its record says {odd}, which is no measurement"
    assert found.metrics["latency_p99_ms"] == 12.0
