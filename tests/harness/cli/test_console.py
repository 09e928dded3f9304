"""What the terminal shows of trials and results."""

import pytest

from harness.cli.board import Board
from harness.cli.console import (
    clock,
    difference,
    latency,
    remarks,
    stderr,
    trials,
)
from harness.cli.measure import _shown
from harness.config.recipe import Recipe
from harness.engine.events import Event
from harness.records import Record
from harness.records.latencies import ROUGH
from harness.records.progress import Progress


def test_the_line_of_a_trial_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board(stderr())
    with board:
        board.begin("a", "width=4", Recipe(epochs=12, batch_size=4, lr=0.1))
        values = {"loss": 1.5, "mAP": 0.25, "eta_s": 61.0, "images_per_second": 41.25}
        board.update("a", Progress("train", 30, 60, values))
        board.update("a", Progress("train", 31, 60, {"loss": 1.4}))
        board.end("a")
    lines = capsys.readouterr().err.splitlines()
    told = "train  epoch 6/12  step 30/60  loss 1.500  mAP 0.250  images/s 41.2  ETA 1:01"
    assert lines == [f"width=4: {told}"]


def test_differences_are_shown_with_their_interval() -> None:
    row = {"mAP_delta": 1.25, "params_delta": -3.0, "latency_ratio": 1.01}
    interval = {"latency_ratio_low": 0.99, "latency_ratio_high": 1.03, "latency_tie": True}
    assert difference({**row, **interval}) == (
        "mAP +1.2 points, params -3.0 %, latency tied, x1.01 (0.99 to 1.03)"
    )
    assert difference({"mAP_delta": None}) is None
    assert clock(3725) == "1:02:05"


def test_a_latency_stands_with_its_interval_and_its_mark() -> None:
    figures = {"latency_ms": 11.7, "latency_low_ms": 11.2, "latency_high_ms": 12.3}
    assert latency(figures, digits=1) == "11.7 (11.2 to 12.3)"
    assert latency(figures, rough=True, digits=1) == "~11.7 (11.2 to 12.3)"
    assert latency({"latency_ms": 11.7}, digits=2) == "11.70"
    assert latency({}) is None


def test_rough_and_stale_rows_are_marked_and_explained_once() -> None:
    plain = {"name": "a", "seed": 0, "state": "done", "latency_ms": 10.0}
    rough = plain | {"latency_ms": 125.6, "latency_rough": "timed for other/t1"}
    rows = [plain, rough, rough, plain | {"other_code": "toy.py"}]
    rows = [row | {"number": number} for number, row in enumerate(rows, 1)]
    shown = {str(column.header): list(column.cells) for column in trials(rows, "study").columns}
    latencies = [str(cell) for cell in shown["latency (ms)"]]
    assert latencies == ["10.000", "~125.600", "~125.600", "10.000"]
    assert str(shown["trial"][-1]) == "a (other code)"
    assert remarks(rows) == [
        "~ rough, not ranked: #2, #3: timed for other/t1",
        "other code: #4: toy.py",
    ]


def test_a_row_that_learnt_nothing_is_marked_and_explained() -> None:
    plain = {"name": "a", "seed": 0, "state": "done", "mAP": 0.4, "learnt_nothing": None}
    rows = [plain, plain | {"mAP": 0.0, "learnt_nothing": "mAP 0.000: try another rate"}]
    rows = [row | {"number": number} for number, row in enumerate(rows, 1)]
    shown = {str(column.header): list(column.cells) for column in trials(rows, "study").columns}
    assert [str(cell) for cell in shown["mAP"]] == ["0.400", "0.000 !"]
    assert remarks(rows) == ["! learnt nothing: #2: mAP 0.000: try another rate"]


def test_a_note_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Board(stderr()) as board:
        board.begin("a", "width=4", Recipe(epochs=12, batch_size=4, lr=0.1))
        board.update("a", Progress("train", 30, 60, {"loss": 1.5}, "learns nothing so far"))
        board.update("a", Progress("train", 31, 60, {"loss": 1.5}))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "width=4: learns nothing so far"
    assert len(lines) == 2


def test_a_finished_trial_says_that_its_latency_is_rough(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = {"study": "s", "trial": "t", "name": "n", "detector": "d", "overrides": {}}
    done = Record.model_validate(
        {**facts, "config": {}, "seed": 0, "state": "done", "metrics": {"latency_ms": 125.6}}
        | {"timings": {"started": 0.0, "finished": 61.0}}
    )
    rough = done.model_copy(update={"caveats": {"latency_ms": f"{ROUGH}disturbed"}})
    with Board(stderr(), 2) as board:
        for item in (done, rough):
            board.handle(Event("finished", item.trial, record=item))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "[1/2] n (seed 0): done in 1:01, latency_ms 125.60"
    assert second == "[2/2] n (seed 0): done in 1:01, latency_ms ~125.60"


def test_what_is_no_trial_has_a_row_as_long_as_it_lasts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Board(stderr()) as board:
        with board.row("4 trials together") as on_progress:
            on_progress(Progress("latency", 1, 2, {}))
            assert list(board.rows) == ["4 trials together"]
        assert board.rows == {}
    assert capsys.readouterr().err.startswith("4 trials together: latency")


def test_times_of_disturbed_rounds_are_marked_where_models_are_measured() -> None:
    metrics = {"latency_ms": 2.0, "latency_low_ms": 1.5, "latency_high_ms": 3.0, "nms_ms": 0.25}
    caveats = dict.fromkeys(("latency_ms", "nms_ms", "energy_j"), f"{ROUGH}disturbed")
    assert _shown(metrics, {})["latency_ms"] == "2.00 (1.50 to 3.00)"
    shown = _shown(metrics, caveats)
    assert (shown["latency_ms"], shown["nms_ms"]) == ("2.00 (1.50 to 3.00), rough", "0.250, rough")
    assert "energy_j" not in shown
