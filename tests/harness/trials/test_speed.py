"""The speed of a training is the median of its epochs after the first, with what to know of it."""

from typing import Any

import pytest

from harness.records import Record
from harness.tracking import contents
from harness.trials import speed
from harness.trials.trainings import Story
from tests.reports.conftest import make_record

MACHINE: dict[str, Any] = {"device": "cpu", "cpu": {"model": "A processor"}, "host": "one"}


def story(*speeds: float, machine: dict[str, Any] = MACHINE, **details: Any) -> Story:
    curves = [
        {"epoch": epoch, "step": epoch * 10, "time": epoch, speed.NAME: value}
        for epoch, value in enumerate(speeds, 1)
    ]
    return Story(
        training="t", made_by="study/t", curves=curves, seconds=1.0, finished=2.0,
        details=details, environment=machine,
    )  # fmt: skip


def noted(told: Story) -> Record:
    result = make_record(environment=MACHINE, curves=told.curves)
    speed.note(told, result)
    return result


def test_the_first_epoch_which_warms_up_does_not_count() -> None:
    found = noted(story(10.0, 100.0, 140.0, 120.0, 110.0))
    assert found.metrics["images_per_second"] == 115.0
    assert "images_per_second" not in found.caveats


@pytest.mark.parametrize(
    ("told", "value", "caveat"),
    [
        (story(10.0), 10.0, "of the only epoch, which also warms up"),
        (story(1.0, 20.0, at_a_time=3), 20.0, "trained while up to 2 more ran on the same cores"),
        (
            story(1.0, 20.0, machine={**MACHINE, "host": "two"}),
            20.0,
            "trained on another machine, or by other software",
        ),
        (
            story(5.0, at_a_time=2),
            5.0,
            "of the only epoch, which also warms up; "
            "trained while up to 1 more ran on the same cores",
        ),
    ],
)
def test_what_a_speed_hangs_on_is_told(told: Story, value: float, caveat: str) -> None:
    found = noted(told)
    assert found.metrics["images_per_second"] == value
    assert found.caveats["images_per_second"] == caveat


def test_an_older_training_has_none() -> None:
    told = story(1.0, 2.0).model_copy(update={"curves": [{"epoch": 1.0, "step": 1.0}]})
    assert "images_per_second" not in noted(told).metrics


def test_the_last_value_that_mlflow_shows_is_the_median() -> None:
    found = noted(story(10.0, 100.0, 140.0, 120.0))
    shown = [point.value for point in contents.metrics(found) if point.key == speed.NAME]
    assert shown == [10.0, 100.0, 140.0, 120.0, 120.0]
