from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from harness.records import Record
from reports import figures, latencies, panels, points, theme
from reports.canvas import shorten
from tests.reports.conftest import Make, together

KNOB = "detector.backbone.expand_ratio"
OTHER = "detector.neck.expand_ratio"


def small_study(make: Make) -> list[Record]:
    return [
        make("a", overrides={KNOB: 0.25, OTHER: 0.25}),
        make("b", overrides={KNOB: 0.5, OTHER: 0.25}, metrics={"mAP": 0.4, "latency_ms": 12.0}),
        make(
            "c",
            overrides={KNOB: 0.5, OTHER: 0.5},
            metrics={"mAP": 0.6, "latency_ms": 14.0, "params": 5e6},
        ),
    ]


def test_every_panel_is_built(make: Make) -> None:
    made = panels.panels(small_study(make))
    assert [panel.key for panel in made] == [
        "mAP-latency_ms",
        "grid",
        "effects",
        "mAP-params",
        "stages",
        "spread",
        "order",
        "curves",
    ]
    for panel in made:
        assert panel.figure.data
        assert panel.note


def test_a_cost_that_all_trials_share_has_no_figure_and_no_view() -> None:
    nms = {"detector.postprocess.iou_threshold": 0.5}
    records = [together("first"), together("b", 1.1, overrides=nms, metrics={"nms_ms": 1.7})]
    made = {panel.key: panel.figure for panel in panels.panels(records)}
    assert not {"mAP-params", "mAP-macs"} & made.keys()
    grid = made["grid"].layout.meta["views"]
    assert [view["label"] for view in grid] == ["mAP", "end-to-end latency", "NMS"]


def test_one_swept_knob_is_drawn_along_its_axis(make: Make) -> None:
    records = [make(str(x), overrides={KNOB: x}) for x in (0.25, 0.5)]
    sweep = next(panel for panel in panels.panels(records) if panel.key == "sweep")
    assert sweep.figure.layout.xaxis.title.text == "expand_ratio"
    assert sweep.figure.layout.xaxis.tickvals == (0.25, 0.5)


def test_nothing_to_draw_draws_nothing(make: Make, failing: Make) -> None:
    assert panels.panels([]) == []
    assert panels.panels([failing()]) == []
    assert "mAP-latency_ms" not in [panel.key for panel in panels.panels([make()])]


def test_the_front_is_connected_and_the_rest_is_shown(make: Make) -> None:
    dots = points.trade_off(small_study(make), "latency_ms")
    figure = figures.trade_off_figure(dots, points.METRICS["latency_ms"], points.METRICS["mAP"])
    line, front, rest = figure.data
    assert list(line.x) == list(front.x) == [10.0, 14.0]
    assert list(rest.y) == [40.0]
    assert front.error_x.array[0] == pytest.approx(0.3)
    assert front.error_x.arrayminus[0] == pytest.approx(0.2)
    assert figure.layout.xaxis.title.text == "end-to-end latency (ms)"


def test_no_front_is_drawn_across_devices() -> None:
    records = [together("first"), together("b", 0.9, overrides={KNOB: 1}, metrics={"mAP": 0.6})]
    apart = records[1].model_copy(update={"environment": {"device": "cuda:0"}})

    def line(*trials: Record) -> list[float]:
        made = next(p for p in panels.panels(trials) if p.key == "mAP-latency_ms")
        return list(made.figure.data[0].x)

    assert line(*records) == [9.0]
    assert line(records[0], apart) == []


def test_views_name_their_traces(make: Make) -> None:
    curves = {name: points.curves(small_study(make), name) for name in ("loss", "mAP")}
    figure = figures.curves_figure(curves)
    first, second = figure.layout.meta["views"]
    assert (first["label"], first["traces"]) == ("loss", [0, 1, 2])
    assert (second["label"], second["traces"]) == ("mAP", [3, 4, 5])
    assert second["layout"] == {"yaxis.title.text": "mAP (%)"}
    assert [trace.visible for trace in figure.data] == [True] * 3 + [False] * 3


def test_every_sample_is_drawn(make: Make) -> None:
    timed = points.timed([make()])
    assert list(latencies.spread_figure(timed).data[0].x) == [10.0, 9.0, 11.0, 30.0]
    reference, trial, *_ = latencies.order_figure(timed).data
    assert (len(reference.y), len(trial.y)) == (2, 4)


def test_running_median_ignores_a_spike() -> None:
    assert np.all(latencies.running_median([1.0] * 10 + [50.0] + [1.0] * 10) == 1.0)


def test_names_cannot_bring_markup_into_a_figure(make: Make) -> None:
    records = [make(str(i), overrides={KNOB: f"<b>{i}"}) for i in range(2)]
    for panel in panels.panels(records):
        drawn = panel.figure.to_dict()
        drawn["layout"].pop("meta")
        texts = [text for text in strings(drawn) if "<b>" in text]
        assert all(text.count("<b>") == text.count("</b>") for text in texts)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


def test_every_colour_of_a_figure_has_one_for_the_dark(make: Make) -> None:
    for panel in panels.panels(small_study(make)):
        drawn = panel.figure.to_dict()
        for trace in drawn["data"]:
            trace.pop("colorscale", None)
        used = {text for text in strings(drawn) if text.startswith("#") and len(text) == 7}
        assert used <= theme.DARK.keys()


def test_long_labels_keep_both_ends() -> None:
    assert shorten("#1: " + "x" * 60 + " seed 3", 21) == "#1: xxxxxx…xxx seed 3"
    assert shorten("short") == "short"


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ([0.001, 0.01, 0.05, 0.25], "log"),  # the first two would touch on a linear axis
        ([0.25, 0.5, 0.75], None),
        ([0.0, 0.001, 0.5], None),  # nothing has no logarithm
        ([1.0, 1.01, 100.0], None),  # which a logarithmic axis does not pull apart either
    ],
)
def test_names_of_settings_do_not_touch_along_an_axis(
    make: Make, settings: list[float], kind: str | None
) -> None:
    path = "detector.postprocess.score_threshold"
    records = [make(f"t{place}", overrides={path: each}) for place, each in enumerate(settings)]
    sweep = next(panel for panel in panels.panels(records) if panel.key == "sweep")
    assert sweep.figure.layout.xaxis.type == kind
    assert list(sweep.figure.layout.xaxis.tickvals) == settings
