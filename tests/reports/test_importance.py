import pytest

from harness.records.importances import Importance, Share
from reports import importance

MAP = Importance("mAP", [Share("width", 0.7, 0.5), Share("lr", 0.3, 0.4)], 30)
TIME = Importance("latency_ms", [Share("lr", 0.6, 0.7), Share("width", 0.4, 0.7)], 28)


def test_knobs_that_pass_luck_stand_apart() -> None:
    assert importance.by_told(MAP) == {
        "more than luck": [Share("width", 0.7, 0.5)],
        "not told from luck": [Share("lr", 0.3, 0.4)],
    }
    assert importance.by_told(TIME)["more than luck"] == []


def test_the_figure_shows_an_objective_at_a_time() -> None:
    made = importance.importance_figure([MAP, TIME])
    views = made.layout.meta["views"]
    assert [view["label"] for view in views] == ["mAP, 30 trials", "latency_ms, 28 trials"]
    assert [view["traces"] for view in views] == [[0, 1, 2], [3, 4]]
    told, others, luck = made.data[:3]
    assert (list(told.x), told.y) == (pytest.approx([70]), ("width",))
    assert (list(others.x), others.y) == (pytest.approx([30]), ("lr",))
    assert list(luck.x) == pytest.approx([50, 40])
    assert [trace.visible for trace in made.data] == [True, True, True, False, False]
    assert views[1]["layout"]["yaxis.categoryarray"] == ["lr", "width"]
