"""Judged tables as Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json

import pytest

from harness.analysis.reproduce import writers
from harness.analysis.reproduce.cells import Cell, Result
from harness.analysis.reproduce.order import Comparison
from harness.analysis.reproduce.schema import Table
from harness.analysis.reproduce.status import status
from tests.harness.analysis.reproduce.published import row, table

COUNT = Cell(
    "a|b", "params", 79.7, 79.8974, 0.2, "differs", "a misprint: 5% & more_of $it", "79.70",
    "79.90", None, None, "M", None,
)  # fmt: skip
TIME = Cell(
    "a|b", "latency", 1.5, 1.6, 0.1, "other setting", "on T4", "3.0", "x1.60", 1.58, 1.62, "ratio",
    None,
)  # fmt: skip
OPEN = Cell(
    "=SUM(A1)", "AP", 42.0, None, None, "not run", "detbench run x; hours", "42.0", "", None, None,
    "%", "detbench run x",
)  # fmt: skip
PAIR = Comparison("AP", "a", "b", 1.5, -0.5, -0.9, -0.1, "contradicts", "", "%")


@pytest.fixture
def result() -> Result:
    own = table("toy", [row(4)], setting={"epochs": "300"}, paper_table="Table 1")
    return Result(own, [COUNT, TIME, OPEN, OPEN._replace(row="c")], [PAIR], "toys/width")


def test_equal_reasons_stand_below_once(result: Result) -> None:
    found = writers.cells(result)
    assert [row["note"] for row in found.rows] == ["1", "2", "3", "3"]
    assert found.notes[2] == OPEN.reason
    assert writers.pairs(result).notes == []


def test_cells_are_written_to_the_printed_digits(result: Result) -> None:
    shown = [[row[key] for key in writers.CELLS] for row in writers.cells(result).rows]
    assert shown[0] == ["a|b", "params (M)", "79.70", "79.90", "+0.20", "differs", "1"]
    assert shown[1] == ["a|b", "latency (ratio)", "x1.50", "x1.60", "+0.10", "other setting", "2"]
    assert shown[2] == ["=SUM(A1)", "AP (%)", "42.0", "–", "–", "not run", "3"]
    pair = writers.pairs(result).rows[0]
    assert (pair["published"], pair["measured"]) == ("+1.50", "-0.50 (-0.90 to -0.10)")


def test_markdown_has_its_own_signs_escaped(result: Result) -> None:
    text = writers.markdown(result)
    assert r"| a\|b | params (M) | 79.70 | 79.90 | +0.20 | differs | 1 |" in text
    assert r"1. a misprint: 5% & more\_of $it" in text
    assert "| AP (%) | b | a | +1.50 | -0.50 (-0.90 to -0.10) | contradicts |  |" in text
    assert "- accuracy and times: rehearsed by study toys/width" in text
    assert "- 4 cells: 1 differs, 1 other setting, 2 not run" in text


def test_latex_has_its_own_signs_escaped_and_rules_of_booktabs(result: Result) -> None:
    text = writers.latex(result)
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1
    assert r"a\textbar{}b & params (M) & 79.70 & 79.90 & +0.20 & differs & 1 \\" in text
    less = writers.latex(result._replace(cells=[COUNT._replace(difference=-0.2)]))
    assert r"& 79.90 & $-$0.20 & differs" in less
    assert r"5\% \& more\_of \$it" in text
    assert r"(toy/width)" in text
    columns = text.partition(r"\begin{tabular}{")[2].partition("}")[0]
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") + 1 for line in lines} == {len(columns)}


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r=", "\n="])
def test_no_cell_of_csv_is_a_formula(result: Result, begin: str) -> None:
    bad = OPEN._replace(row=f"{begin}1+1", reason=f"{begin}cmd|' /C calc'!A0", measured=-0.5)
    text = writers.to_csv([result._replace(cells=[bad])])
    (line,) = csv.DictReader(io.StringIO(text, newline=""))
    assert line["row"] == f"'{begin.strip()}1+1"
    assert line["reason"].startswith(f"'{begin.strip()}")
    assert line["measured"] == "-0.5"  # a number stays one
    assert line["printed"] == "42.0"


def test_json_holds_every_cell_and_what_it_is_about(result: Result) -> None:
    found = json.loads(json.dumps(writers.plain("toy/width", [result], "abc")))
    assert found["table"] == "toy/width"
    assert found["setting"] == {"epochs": "300"}
    assert found["commit"] == "abc"
    assert found["counts"] == {
        "reproduced": 0, "not settled": 0, "differs": 1, "other setting": 1, "not run": 2,
        "outside": 0,
    }  # fmt: skip
    keys = {"row", "column", "published", "measured", "difference", "verdict", "reason"}
    assert all(keys <= cell.keys() for cell in found["cells"])
    assert found["cells"][0]["table"] == "toy/width"
    assert found["cells"][2]["measured"] is None
    assert found["comparisons"][0]["verdict"] == "contradicts"
    assert list(found["words"]) == ["differs", "other setting", "not run", "contradicts"]
    assert found["tables"][0]["rehearsed_by"] == "toys/width"


def test_words_of_verdicts_are_explained_below_a_table_and_only_those_that_stand_there(
    result: Result,
) -> None:
    told = "other data, schedule or device than printed: shown, never judged"
    assert f"- other setting: {told}\n" in writers.markdown(result)
    assert rf"\par other setting: {told}" in writers.latex(result)
    assert "- not settled: " not in writers.markdown(result)
    cells = [result.cells[0]._replace(reason="unexplained; 95 % interval")]
    assert list(writers.key([result._replace(cells=cells, comparisons=[])])) == [
        "differs", "unexplained",
    ]  # fmt: skip


def test_the_status_adds_up_and_says_what_is_missing(result: Result) -> None:
    outside = Table.model_validate(
        table(None, [row(4, repeat=None)], outside="needs masks").model_dump(by_alias=True)
        | {"id": "toy/masks", "rows": [{**row(4), "repeat": None}]}
    )
    other = Result(
        outside, [OPEN._replace(verdict="outside", reason="needs masks", command=None)], [], None
    )
    text = status([result, other])
    assert "| toy/width | 4 | 0 | 0 | 1 | 1 | 2 | 0 | 1 | 0 | 1 | 0 |" in text
    assert "| all | 5 | 0 | 0 | 1 | 1 | 2 | 1 | 1 | 0 | 1 | 0 |" in text
    assert (
        "1 cells are counted: 0 to the printed digit, 1 otherwise, of which 0 unexplained" in text
    )
    assert "- toy/width, a\\|b, params: printed 79.70, counted 79.90: a misprint" in text
    assert "  - 2 cells not run: `detbench run x`\n" in text
    assert "  - 1 cell outside: needs masks\n" in text
    assert "hours" not in text
