"""Published tables: cells as they were printed, and files that are wrong refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.reproduce import tables
from harness.analysis.reproduce.schema import Repeat
from harness.config.yaml_source import StudyError

PAPER = """\
meta:
  paper: A paper
tables:
- id: paper/one
  title: A table
  varied: width
  study: rtmdet/kernel_size
  columns:
  - {name: width}
  - {name: params, unit: M, metric: params}
  - {name: time, unit: ms, metric: network_ms, device: NVIDIA T4}
  - {name: AP, unit: '%', metric: mAP, set: [detector=rtmdet_l]}
  - {name: memory, unit: GB, outside: nobody records it}
  rows:
  - {width: 0.50, params: 8.10, time: 2.0, AP: null, memory: 3, repeat: {trial: a, set: [seeds=1]}}
  - {width: true, params: 1e3, time: 4.00, AP: 40.0, memory: 3, repeats: {time: {trial: b}}}
  - {width: 2, params: 9, time: 5.0, AP: 41.0, memory: 3, outside: too wide}
  status: verified
  source: [here]
"""


def written(folder: Path, old: str = "", new: str = "") -> Path:
    """Write the paper with a part replaced."""
    assert old in PAPER
    file = folder / "paper.yaml"
    file.write_text(PAPER.replace(old, new, 1), encoding="utf-8")
    return file


def test_cells_stay_as_they_were_printed(tmp_path: Path) -> None:
    (table,) = tables.read(written(tmp_path)).tables
    first, second, _ = table.rows
    assert first.cells == {
        "width": "0.50", "params": "8.10", "time": "2.0", "AP": None, "memory": "3",
    }  # fmt: skip
    assert [second.cells[name] for name in ("width", "params", "time")] == ["true", "1e3", "4.00"]


def test_a_cell_is_repeated_by_its_row_by_itself_or_not_at_all(tmp_path: Path) -> None:
    (table,) = tables.read(written(tmp_path)).tables
    first, second, third = table.rows
    params, time, accuracy, memory = table.columns[1:]
    assert table.repeat(first, params) == Repeat(trial="a", set=("seeds=1",))
    assert table.repeat(first, accuracy) == Repeat(trial="a", set=("seeds=1", "detector=rtmdet_l"))
    assert table.repeat(first, memory) is None
    assert table.why_outside(first, memory) == "nobody records it"
    assert table.repeat(second, time) == Repeat(trial="b")
    assert table.repeat(second, params) is None
    assert table.why_outside(third, params) == "too wide"


AP = "{name: AP, unit: '%', metric: mAP, set: [detector=rtmdet_l]}"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("varied: width", "varies: width", 6, "unknown key 'varies'; did you mean varied"),
        ("  title: A table\n", "", 4, "title is missing"),
        ("metric: mAP", "metric: AP", 12, "columns.3.metric: "),
        ("unit: M", "unit: m", 10, "columns.1.unit: "),
        ("{trial: a, set", "{tril: a, set", 15, "unknown key 'tril'; did you mean trial?"),
        ("params: 8.10, ", "", 4, "row 1: column params is missing; write null"),
        ("AP: 40.0", "A_P: 40.0", 4, "row 2: no column 'A_P'; did you mean AP?"),
        ("outside: too wide", "repeat: {}", 17, "name either a trial"),
        (", outside: too wide", "", 4, "row 3: needs `repeat`, or `outside`"),
        ("repeat: {trial: a", "outside: no, repeat: {trial: a", 4, "row 1: needs `repeat`"),
        ("varied: width", "varied: x\n  outside: no", 4, "one of `study` and `outside`"),
        ("  study: rtmdet/kernel_size\n", "", 4, "row 1: names a trial, and the"),
        ("repeats: {time: ", "repeats: {width: ", 4, "row 2: 'width' is no column that is"),
        (", device: NVIDIA T4", "", 11, "column time: a time needs its device, and it alone"),
        ("metric: params", "metric: flops", 10, "column params: flops need their conventions"),
        (AP, "{name: AP, metric: mAP, outside: no}", 12, "column AP: has a metric and is outside"),
        ("name: AP", "name: time", 4, "two columns have one name"),
        ("{trial: b}", "{trial: b, weights: coco}", 16, "a trial has its study's recipe"),
        ("id: paper/one", "id: other/one", 4, "other/one does not begin with"),
        ("  paper: A paper", "  paper: A\n  zoo: paper/two", None, "meta.zoo: no table paper/two"),
        ("width: 2,", "width: [2],", 17, "rows.2.width: "),
        ("tables:", "table:", 3, "table: unknown key 'table'; did you mean tables?"),
        ("source: [here]", "source: [here", 20, "not YAML"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_in_one_line(
    tmp_path: Path, old: str, new: str, line: int | None, said: str
) -> None:
    file = written(tmp_path, old, new)
    with pytest.raises(StudyError) as caught:
        tables.read(file)
    message = str(caught.value)
    assert message.startswith(f"{file}:{line}: " if line else f"{file}: ")
    assert said in message
    assert "\n" not in message


def test_a_table_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_text(PAPER + PAPER.partition("tables:\n")[2], encoding="utf-8")
    with pytest.raises(StudyError, match="table paper/one stands here a second time"):
        tables.read(file)


def test_a_table_is_found_by_its_id_and_another_refused_with_the_nearest() -> None:
    assert tables.load("rtmdet/table5b_blocks").study == "rtmdet/stage_blocks"
    with pytest.raises(StudyError, match="no published table 'rtmdet/table5b_block'; did you mean"):
        tables.load("rtmdet/table5b_block")
    with pytest.raises(StudyError, match="'table5b'.* `detbench list tables` names"):
        tables.load("table5b")
    with pytest.raises(StudyError, match="no paper 'rtmdt'; did you mean rtmdet?"):
        tables.tables("rtmdt")


def test_a_released_detector_has_one_published_figure() -> None:
    found = {name: tables.released(name) for name in ("rtmdet_m", "rtdetr_hgnetv2_x")}
    printed = {name: one[0] for name, one in found.items() if one}
    assert printed == {
        "rtmdet_m": tables.load("rtmdet/readme_mmdet_det").rows[2].cells["flops"],
        "rtdetr_hgnetv2_x": tables.load("rtdetr/readme_root").rows[6].cells["gflops"],
    }
    assert tables.released("rtmdet_nano") is None


def test_all_tables_are_of_the_papers_that_are_here() -> None:
    assert {table.id.partition("/")[0] for table in tables.tables()} == set(tables.papers())
    assert len(tables.tables("rtmdet")) + len(tables.tables("rtdetr")) >= 41
