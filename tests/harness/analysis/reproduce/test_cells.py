"""Cells of published tables: each gets the figure that repeats it, and its verdict."""

from pathlib import Path
from typing import Any

import pytest

from harness.analysis.reproduce.cells import Cell, Missed, Result, Sources, judge, wanted
from harness.analysis.reproduce.finished import Finished
from harness.analysis.reproduce.measured import labels
from harness.analysis.reproduce.schema import Repeat, Table
from harness.analysis.reproduce.trials import Asked, Rehearsal, asked, rehearsed
from harness.config.yaml_source import StudyError
from harness.study import load
from harness.study.study import Given
from tests.harness.analysis.reproduce.published import COLUMNS, SMALL, put, row, table, trained
from tests.harness.studies import write
from tests.reports.conftest import together

MISPRINTED = {"counted": "0.001634", "reason": "misprinted"}
ENOUGH = [39.99, 40.0, 40.01]


def missed(table: Table, asked: Asked) -> Missed:
    return Missed(f"run {asked.name}", "an hour")


def judged(table: Table, runs: Path, **changes: Any) -> Result:
    """Judge a table by records as they are."""
    return judge(table, Sources(Finished(runs, keep_stale=True), missed, **changes), {})


def cell(found: Result, name: str, column: str) -> Cell:
    (one,) = (item for item in found.cells if (item.row, item.column) == (name, column))
    return one


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write(tmp_path)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_what_architecture_determines_is_counted_without_records(study: Path, runs: Path) -> None:
    """By hand: 3 x 4 x 8 x 8 + 4 and 4 x 10 + 10; 64 points of 8 x 8 pixels, the same products."""
    found = judged(table(study), runs)
    for name, width in (("4", 4), ("8", 8)):
        params = 3 * width * 64 + width + width * 10 + 10
        macs = 64 * (3 * width * 64 + width * 10)
        one = cell(found, name, "params")
        assert (one.verdict, one.difference) == ("reproduced", 0.0)
        assert one.measured == pytest.approx(params / 1e6)
        assert cell(found, name, "flops").measured == pytest.approx(macs / 1e9)
        assert cell(found, name, "flops").verdict == "reproduced"


def test_a_table_that_is_wrong_on_purpose_differs(study: Path, runs: Path) -> None:
    wrong = [
        row(4, params="0.000823", flops="0.00010342", AP="41.0"),
        row(8, params="0.0020", differs={"params": MISPRINTED}),
    ]
    put(runs, *(trained(4, seed, ap) for seed, ap in enumerate(ENOUGH)))
    found = judged(table(study, wrong), runs)
    for column, difference in (("params", -1e-6), ("flops", -5.171e-5), ("AP", -1.0)):
        one = cell(found, "4", column)
        assert one.verdict == "differs"
        assert one.difference == pytest.approx(difference, abs=1e-7)
        assert one.reason.startswith("unexplained")
    assert cell(found, "8", "params").reason == "misprinted"
    assert found.counts["differs"] == 4
    assert found.counts["reproduced"] == 1


def test_what_was_not_run_says_what_would_run_it(study: Path, runs: Path) -> None:
    found = judged(table(study), runs)
    one = cell(found, "8", "AP")
    assert (one.verdict, one.measured) == ("not run", None)
    assert (one.reason, one.command) == ("run width=8; an hour", "run width=8")
    sources = Sources(Finished(runs), missed)
    assert [item.name for item in wanted(table(study), sources)] == ["width=4", "width=8"]


def test_seeds_settle_an_accuracy_and_one_does_not(study: Path, runs: Path) -> None:
    put(runs, *(trained(4, seed, ap) for seed, ap in enumerate(ENOUGH)), trained(8, 0, 42.0))
    found = judged(table(study), runs)
    assert cell(found, "4", "AP").verdict == "reproduced"
    assert cell(found, "4", "AP").measured == pytest.approx(40.0)
    assert cell(found, "8", "AP").verdict == "not settled"
    assert cell(found, "8", "AP").low is None


@pytest.mark.parametrize(
    ("changes", "given", "told"),
    [
        ({"data": SMALL}, Given(), "on bccd, 87 images"),
        ({}, Given(None, ("recipe.epochs=3",)), "with recipe.epochs=3"),
        ({}, Given(None, ("seeds=[0, 1, 2]", "latency.seconds=1.0")), None),
    ],
)
def test_accuracies_of_another_setting_are_shown_and_not_judged(
    study: Path, runs: Path, changes: dict[str, Any], given: Given, told: str | None
) -> None:
    config = {"detector.width": 4, "recipe.epochs": 3, "latency.seconds": 1.0}
    values = [trained(4, seed, ap, config=config, **changes) for seed, ap in enumerate(ENOUGH)]
    found = judged(table(study), put(runs, *values), given=given)
    one = cell(found, "4", "AP")
    assert one.measured == pytest.approx(40.0)
    if told is None:
        assert one.verdict == "reproduced"
    else:
        assert (one.verdict, one.reason) == ("other setting", f"{told}; mean of 3 seeds")


def test_a_table_may_say_that_its_study_is_of_another_setting(study: Path, runs: Path) -> None:
    put(runs, *(trained(4, seed, ap) for seed, ap in enumerate(ENOUGH)))
    found = judged(table(study, other_setting="another backbone"), runs)
    assert cell(found, "4", "AP").reason == "another backbone; mean of 3 seeds"


def test_times_of_other_devices_are_ratios_to_the_first_row(study: Path, runs: Path) -> None:
    first = together("first", study="toy", name="width=4", detector="tests.toy:TOY")
    second = together("second", 1.6, study="toy", name="width=8", detector="tests.toy:TOY")
    found = judged(table(study), put(runs, first, second))
    one = cell(found, "8", "latency")
    assert (one.verdict, one.unit, one.shown) == ("other setting", "ratio", "x1.60")
    assert (one.published, one.measured) == pytest.approx((1.5, 1.6))
    assert (one.low, one.high) == pytest.approx((1.58, 1.62))
    assert "ratio to 4; ours on A processor; published on T4, RT" in one.reason
    assert "ms" not in one.reason
    assert cell(found, "4", "latency").published == 1.0


def test_a_ratio_needs_the_first_row(study: Path, runs: Path) -> None:
    found = judged(table(study), put(runs, trained(8, 0, 42.0)))
    one = cell(found, "8", "latency")
    assert one.verdict == "not run"
    assert one.reason == "the row that ratios are to was not timed here: 4"


def test_a_rough_time_is_no_time(study: Path, runs: Path) -> None:
    rough = {"latency_ms": "rough: half of the rounds were disturbed"}
    put(runs, trained(4, 0, 40.0), trained(8, 0, 42.0, caveats=rough))
    one = cell(judged(table(study), runs), "8", "latency")
    assert one.verdict == "not run"
    assert "its time is rough: half of the rounds" in one.reason


def test_what_the_tool_cannot_repeat_is_outside_with_the_reason(study: Path, runs: Path) -> None:
    columns = [*COLUMNS[:-1], {"name": "AP", "unit": "%", "outside": "needs masks"}]
    rows = [row(4), row(8, without={"latency": "timed with another input"})]
    found = judged(table(study, rows, columns=columns), runs)
    assert cell(found, "4", "AP").reason == cell(found, "8", "AP").reason == "needs masks"
    assert cell(found, "8", "latency").reason == "timed with another input"
    assert cell(found, "8", "latency").verdict == "outside"
    assert cell(found, "4", "latency").verdict == "not run"


def test_nothing_is_said_of_a_cell_that_is_not_printed(study: Path, runs: Path) -> None:
    found = judged(table(study, [row(4, AP=None), row(8)]), runs)
    assert len(found.cells) == 7


def test_released_weights_are_judged_to_the_digit(runs: Path) -> None:
    rows = [row(4, AP=ap, repeat=None) for ap in ("40.0", "40.1")]
    for one in rows:
        one["repeat"] = {
            "detector": "tests.toy:TOY",
            "weights": "coco",
            "set": ["detector.width=4"],
        }
    columns = [COLUMNS[0], COLUMNS[-1]]
    rows = [{key: one[key] for key in ("width", "AP", "repeat")} for one in rows]
    evaluated = trained(4, 0, 40.04, study="toy_width", name="detector=tests.toy:TOY")
    found = judged(table(None, rows, columns=columns), put(runs, evaluated))
    assert [item.verdict for item in found.cells] == ["reproduced", "differs"]
    other = judged(
        table(None, rows, columns=columns), put(runs, evaluated.model_copy(update={"data": SMALL}))
    )
    assert [item.verdict for item in other.cells] == ["other setting"] * 2


def test_a_rehearsal_shows_its_figures_and_is_judged_by_order(study: Path, runs: Path) -> None:
    small = [trained(w, s, ap + w, data=SMALL) for w in (4, 8) for s, ap in enumerate(ENOUGH)]
    rehearsal = Rehearsal("toys/width", load(study))
    found = judged(table(study), put(runs, *small), rehearsal=rehearsal)
    assert found.rehearsed_by == "toys/width"
    assert cell(found, "4", "AP").reason == (
        "rehearsed by study toy; on bccd, 87 images; mean of 3 seeds"
    )
    assert [(pair.column, pair.verdict) for pair in found.comparisons] == [
        ("latency", "appears"),
        ("AP", "appears"),
    ]


def test_rows_that_a_rehearsal_lacks_are_not_run(study: Path, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "less").mkdir()
    less = Rehearsal("toys/less", load(write(tmp_path / "less", sweep={"detector.width": [8, 16]})))
    found = judged(table(study), runs, rehearsal=less)
    assert cell(found, "4", "AP").reason == "study toys/less has no trial width=4"
    assert cell(found, "8", "AP").reason == "run width=8; an hour"


def test_a_row_of_another_detector_is_rehearsed_with_that(study: Path, runs: Path) -> None:
    """Not by the trials of the first row, whose names are the same."""
    larger = {"trial": "width=4", "set": ["detector.num_classes=3"]}
    own = table(study, [row(4), row(8, repeat=larger)])
    small = [trained(4, seed, ap, data=SMALL) for seed, ap in enumerate(ENOUGH)]
    found = judged(own, put(runs, *small), rehearsal=Rehearsal(str(study), load(study)))
    assert cell(found, "4", "AP").verdict == "other setting"
    assert cell(found, "8", "AP").reason == "run width=4; an hour"
    odd = Repeat.model_validate({"trial": "width=4", "set": ("detector.backbone.depth_mult=1",)})
    assert rehearsed(Rehearsal(str(study), load(study)), odd) is None


def test_trials_that_there_are_not_are_named(study: Path, runs: Path) -> None:
    wrong = table(study, [row(4), row(8, repeat={"trial": "width=9"})])
    with pytest.raises(
        StudyError, match="toy/width: study .* has no trial 'width=9'; did you mean"
    ):
        judged(wrong, runs)


def test_only_records_that_a_run_would_take_count(study: Path, runs: Path) -> None:
    """Of another data set and other code they are none, but with `keep_stale`."""
    put(runs, *(trained(4, seed, ap) for seed, ap in enumerate(ENOUGH)))
    strict = Finished(runs)
    found = judge(table(study), Sources(strict, missed), {})
    assert cell(found, "4", "AP").verdict == "not run"
    (note,) = strict.notes
    assert note.startswith(f"{runs / 'toy'}: its finished trials have other knobs, data or code")


def test_scoring_and_further_changes_belong_to_the_study(study: Path) -> None:
    rows = [row(4), row(8, repeat={"trial": "width=8", "set": ["detector.num_classes=3"]})]
    own = table(study, rows, scoring={"score_threshold": 0.3})
    repeat = own.repeat(own.rows[1], own.column("AP"))
    assert repeat is not None
    config = asked(own, repeat).config
    assert (config.width, config.num_classes, config.postprocess.score_threshold) == (8, 3, 0.3)


def test_rows_are_named_by_what_tells_them_apart(study: Path) -> None:
    columns = [{"name": "model"}, {"name": "same"}, {"name": "on"}, COLUMNS[1]]
    rows = [
        {"model": model, "same": "x", "on": on, "params": params, "repeat": row(4)["repeat"]}
        for model, on, params in (("a", "true", "1"), ("a", "false", "1"), ("a", "false", "2"))
    ]
    assert labels(table(study, rows, columns=columns)) == [
        "a, on true, params 1",
        "a, on false, params 1",
        "a, on false, params 2",
    ]
    switches = [{**one, "model": one["on"]} for one in rows[:2]]
    assert labels(table(study, switches, columns=columns)) == ["model true", "model false"]
