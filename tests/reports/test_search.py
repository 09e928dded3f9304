import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import Record
from reports import designs, panels, search, site
from reports.search import Goal
from tests.reports.conftest import Make, together

GOAL = Goal({"mAP": "maximize", "latency_ms": "minimize"}, {"mAP": 0.0, "latency_ms": 20.0})
POINTS = st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=0, max_size=8)


def test_volume_of_two_boxes_by_hand() -> None:
    points = np.array([[3.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    assert search.hypervolume(points, np.zeros(2)) == 3 + 2 - 1


def test_points_not_above_the_reference_add_nothing() -> None:
    points = np.array([[3.0, 0.0], [-1.0, 5.0]])
    assert search.hypervolume(points, np.zeros(2)) == 0
    assert search.hypervolume(np.empty((0, 2)), np.zeros(2)) == 0


@given(POINTS)
@settings(max_examples=60, deadline=None)
def test_volume_counts_the_unit_cells_that_are_covered(points: list[tuple[int, int, int]]) -> None:
    cells = itertools.product(range(5), repeat=3)
    covered = sum(
        any(all(c < p for c, p in zip(cell, point, strict=True)) for point in points)
        for cell in cells
    )
    array = np.array(points, dtype=float).reshape(-1, 3)
    assert search.hypervolume(array, np.zeros(3)) == pytest.approx(covered)


def test_volume_grows_in_the_order_in_which_trials_ended(make: Make, failing: Make) -> None:
    records = [
        make("late", metrics={"mAP": 0.4, "latency_ms": 10.0}, timings={"finished": 3.0}),
        make("early", metrics={"mAP": 0.2, "latency_ms": 15.0}, timings={"finished": 1.0}),
        failing(timings={"finished": 2.0}),
    ]
    found = search.growth(records, GOAL)
    assert found is not None
    assert found.trials == [1, 2, 3]
    assert found.volumes == pytest.approx([0.2 * 5, 0.2 * 5, 0.4 * 10])
    assert found.reference == {"mAP": 0.0, "latency_ms": 20.0}


def test_without_a_reference_the_worst_that_was_seen_is_it(make: Make) -> None:
    records = [
        make("a", metrics={"mAP": 0.4, "latency_ms": 10.0}),
        make("b", metrics={"mAP": 0.2, "latency_ms": 8.0}),
    ]
    found = search.growth(records, GOAL._replace(reference={}))
    assert found is not None
    assert found.reference == {"mAP": 0.2, "latency_ms": 10.0}
    assert search.growth([], GOAL) is None


def test_a_trial_beyond_the_constraints_is_on_no_front(make: Make) -> None:
    records = [
        make("big", metrics={"mAP": 0.9, "latency_ms": 5.0}),
        make("good", metrics={"mAP": 0.4, "latency_ms": 10.0}),
        make("same", metrics={"mAP": 0.4, "latency_ms": 10.0}),
        make("worse", metrics={"mAP": 0.4, "latency_ms": 11.0}),
        make("pruned", state="pruned"),
    ]
    goal = GOAL._replace(beyond=frozenset({"big"}))
    assert [record.trial for record in search.front(records, goal)] == ["good", "same"]
    assert [record.trial for record in search.front(records, GOAL)] == ["big"]


def found_by_search(make: Make = together) -> list[Record]:
    return [
        make("first", metrics={"mAP": 0.4}),
        make("other", 0.9, overrides={"recipe.lr": 0.2}, metrics={"mAP": 0.3}),
        make("big", 0.5, metrics={"mAP": 0.9}, timings={"finished": 1.0}),
    ]


def test_a_search_whose_latencies_were_timed_apart_names_no_front() -> None:
    records = [record.model_copy(update={"details": {}}) for record in found_by_search()]
    assert "growth" not in {panel.key for panel in panels.panels(records, GOAL)}
    (line,) = designs.summary(records, GOAL)
    assert line == (
        "Latency is not ranked: latencies were timed apart; "
        "`--remeasure latency` of `detbench run` times them together."
    )
    sizes = Goal({"mAP": "maximize", "params": "minimize"})
    assert "On the front: #3." in designs.summary(records, sizes)[-1]


def test_a_rough_latency_counts_as_a_try_and_adds_nothing() -> None:
    *others, big = found_by_search()
    rough = big.model_copy(update={"caveats": {"latency_ms": "rough: timed for other/t1"}})
    lines = designs.summary([*others, rough], GOAL)
    assert "1 of 3 latencies is rough" in lines[0]
    assert lines[1].startswith("Hypervolume 4.3,")
    assert "On the front: #1, #2." in lines[1]


def test_a_page_of_a_search_shows_its_growth_and_no_effects() -> None:
    records = found_by_search()
    made = {
        panel.key: panel
        for panel in panels.panels(records, GOAL._replace(beyond=frozenset({"big"})))
    }
    assert "effects" not in made
    assert made["growth"].note.startswith(
        "Hypervolume 4.3, down to mAP 0, latency_ms 20. On the front: #1, #2."
    )
    (line,) = designs.summary(records, GOAL._replace(beyond=frozenset({"big"})))
    assert line == made["growth"].note
    growth = made["growth"].figure
    assert list(growth.data[0].y) == pytest.approx([0.0, 4.0, 4.3])
    assert growth.layout.yaxis.title.text == "dominated volume (mAP × latency_ms)"
    shown = [text for trace in made["mAP-latency_ms"].figure.data for text in trace.text or ()]
    assert not any(text.startswith("#3") for text in shown)


def test_a_page_without_finished_trials_has_no_growth(failing: Make, tmp_path: Path) -> None:
    page = site.write([failing()], tmp_path, title="t", goal=GOAL)
    assert "growth" not in page.read_text("utf-8").split("<script>")[0]
