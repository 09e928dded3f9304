from typing import Any

from harness.records.progress import Progress
from harness.trials.epochs import Epochs


class Watcher:
    """Hears what is told, and judges."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.asked: list[str] = []

    def hear(self, progress: Progress) -> None:
        if progress.row:
            row = dict(progress.row)
            assert row.pop("time") > 0
            self.rows.append(row)

    def judge(self, stage: str, metrics: dict[str, float], curves: Any) -> str:
        self.asked.append(stage)
        return "it is dominated"


def test_an_epoch_is_told_after_its_last_step() -> None:
    watcher = Watcher()
    told = Epochs(watcher.hear, None, epochs=2)
    values = {"loss": 3.0, "loss_cls": 1.0, "lr": 0.1, "eta_s": 9.0, "mAP": 0.5}
    for step in range(7):
        told.show(Progress("train", step, 6, values | {"loss": float(step)}))
        told.show(Progress("evaluate", step, 6, values))
    assert watcher.rows == [
        {"epoch": 1, "step": 3, "live/loss": 3.0, "live/lr": 0.1},
        {"epoch": 2, "step": 6, "live/loss": 6.0, "live/lr": 0.1},
    ]


def test_a_validation_is_told_and_the_judge_is_asked() -> None:
    watcher = Watcher()
    told = Epochs(watcher.hear, watcher.judge, epochs=2)
    told.show(Progress("train", 1, 6, {}))
    curves = [{"epoch": 1.0, "step": 3.0, "time": 5.0, "mAP": 0.2}]
    assert told.ask("epoch", {"mAP": 0.2}, curves) == "it is dominated"
    assert watcher.rows == [{"epoch": 1.0, "step": 3.0, "mAP": 0.2}]
    assert watcher.asked == ["epoch"]
    assert Epochs(watcher.hear, None, epochs=2).ask("epoch", {}, curves) is None
