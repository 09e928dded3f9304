"""Figures as files: sizes and names; drawing itself where kaleido and a browser are."""

import importlib.util
from pathlib import Path

import pytest

from reports import browsers, panels, static
from reports.browsers import StaticError
from reports.static import SIZES
from tests.reports.conftest import Make
from tests.reports.test_figures import small_study


def test_every_view_is_drawn_for_a_column_and_for_a_page(make: Make) -> None:
    made = {each.name: each.figure for each in static.drawings(panels.panels(small_study(make)))}
    assert {"mAP_latency_ms-column", "mAP_latency_ms-page", "grid_parameters-page"} <= made.keys()
    assert not any(name.startswith("order") for name in made)
    assert made["mAP_latency_ms-column"].layout.width == pytest.approx(312)
    assert made["mAP_latency_ms-page"].layout.width == pytest.approx(660)
    assert made["mAP_latency_ms-column"].layout.font.size == pytest.approx(10)
    first, second = (made[f"curves_{name}-page"] for name in ("loss", "mAP"))
    assert [trace.visible for trace in first.data][:3] == [True] * 3
    assert [trace.visible for trace in second.data][:3] == [False] * 3
    assert second.layout.yaxis.title.text == "mAP (%)"


def test_a_column_has_the_names_that_fit_it(make: Make) -> None:
    panel = panels.panels(small_study(make))[0]
    narrow = panel.figure.layout.meta["narrow"]["traces"]["1"]
    column, page = (static.sized(static.shown(panel.figure, None), size) for size in SIZES)
    assert list(column.data[1].text) == narrow["text"]
    assert page.data[1].text == panel.figure.data[1].text


def test_without_kaleido_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StaticError, match=r"^--figures needs kaleido: pip install .*plots\]'$"):
        browsers.check()


@pytest.mark.browser
def test_figures_are_files(make: Make, tmp_path: Path) -> None:
    pytest.importorskip("kaleido")
    panel = panels.panels(small_study(make))[0]
    made = static.write([panel], tmp_path)
    assert [path.name for path in made[:3]] == [
        f"mAP_latency_ms-column.{kind}" for kind in static.FORMATS
    ]
    starts = [path.read_bytes()[:5] for path in made[:3]]
    assert starts == [b"<svg ", b"%PDF-", b"\x89PNG\r"]
