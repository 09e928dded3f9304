"""What the terminal shows of trials and results."""

import pytest

from harness.cli.console import Board, clock, difference, stderr
from harness.config.recipe import Recipe
from harness.records.progress import Progress


def test_the_line_of_a_trial_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board(stderr())
    with board:
        board.begin("a", "width=4", Recipe(epochs=12, batch_size=4, lr=0.1))
        board.update("a", Progress("train", 30, 60, {"loss": 1.5, "mAP": 0.25, "eta_s": 61.0}))
        board.update("a", Progress("train", 31, 60, {"loss": 1.4}))
        board.end("a")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["width=4: train  epoch 6/12  loss 1.500  mAP 0.250  ETA 1:01"]


def test_differences_are_shown_with_their_interval() -> None:
    row = {"mAP_delta": 1.25, "params_delta": -3.0, "latency_ratio": 1.01}
    interval = {"latency_ratio_low": 0.99, "latency_ratio_high": 1.03, "latency_tie": True}
    assert difference({**row, **interval}) == (
        "mAP +1.2 points, params -3.0 %, latency tied, x1.01 (0.99 to 1.03)"
    )
    assert difference({"mAP_delta": None}) is None
    assert clock(3725) == "1:02:05"
