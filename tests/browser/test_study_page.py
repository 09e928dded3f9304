"""The page of a study in headless Chromium, from a file and without a network."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.records import Record
from harness.records.importances import Importance, Importances, Share
from harness.records.precision import RECALLS
from reports import site
from reports.findings import Findings
from tests.patience import HANG
from tests.reports.conftest import make_failed, make_record, together
from tests.reports.test_precision import precise
from tests.reports.test_published import result

pytestmark = pytest.mark.browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1400,1000",
    "--virtual-time-budget=8000",
    "--dump-dom",
)
KNOB = "detector.backbone.expand_ratio"
SORT = """
<script>
  const heading = [...document.querySelectorAll("#trials thead button")]
    .find((button) => button.textContent === "params, M");
  heading.click();
  heading.click();
  const select = document.querySelector("#curves select");
  select.selectedIndex = 1;
  select.dispatchEvent(new Event("change"));
  const numbers = [...document.querySelectorAll("#trials tbody th")];
  document.body.dataset.order = numbers.map((cell) => parseInt(cell.textContent)).join();
  document.body.dataset.axis = document.querySelector("#curves .ytitle").textContent;
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [
        make_record("a"),
        make_record("b", overrides={KNOB: 0.5}, metrics={"mAP": 0.6, "params": 5e6}),
        make_failed("c", overrides={KNOB: 1.0}),
        make_record("d", overrides={KNOB: 0.75}, metrics={"mAP": 0.4, "params": 6e6}),
    ]
    page = site.write(records, tmp_path_factory.mktemp("page"), title="A study")
    page.write_text(page.read_text("utf-8").replace("</body>", SORT + "</body>"), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def light(browser: str, page: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page's elements by day, sorted and chosen from; each start of a browser takes seconds."""
    profile = tmp_path_factory.mktemp("light")
    return dom(browser, page, profile, "--blink-settings=preferredColorScheme=1")


def dom(browser: str, page: Path, profile: Path, *options: str) -> str:
    """Return the page's elements after its scripts ran; fail on whatever they complained of."""
    done = subprocess.run(
        [browser, *OPTIONS, *options, f"--user-data-dir={profile}", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG,
        env={**os.environ, "HOME": str(profile)},
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in said if "source: chrome://" not in line] == []  # its own pages
    return re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.DOTALL)


def test_every_figure_is_drawn(light: str, page: Path) -> None:
    drawn = re.findall(r'<div class="plot[^"]*js-plotly-plot[^"]*" data-figure="([^"]+)"', light)
    assert drawn == re.findall(r'data-figure="([^"]+)"', page.read_text("utf-8"))
    assert len(drawn) == 7
    assert light.count('class="main-svg"') >= len(drawn)
    assert light.count("<tr") >= 4
    assert "Share chart" not in light


def test_the_dark_has_its_colours(browser: str, light: str, page: Path, tmp_path: Path) -> None:
    dark = dom(browser, page, tmp_path / "dark", "--blink-settings=preferredColorScheme=0")
    blue, blue_in_the_dark = "rgb(68, 119, 170)", "rgb(111, 159, 208)"
    assert blue in light
    assert blue_in_the_dark not in light
    assert blue_in_the_dark in dark


def test_headings_sort_and_lists_choose(light: str) -> None:
    assert 'data-order="4,2,1,3"' in light
    assert 'data-axis="mAP (%)"' in light


def told(shown: str, name: str) -> str:
    """Return what a test's script wrote down."""
    found = re.search(rf'data-{name}="([^"]*)"', shown)
    assert found is not None, name
    return html.unescape(found.group(1))


def with_script(page: Path, folder: Path, name: str, head: str = "") -> Path:
    """Copy a page, which needs no other file, with a script that looks at it."""
    script = Path(__file__).with_name(name).read_text("utf-8")
    text = page.read_text("utf-8").replace("</body>", f"<script>{script}</script></body>")
    copy = folder / "page.html"
    copy.write_text(text.replace("</head>", head + "</head>", 1), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of trials that were timed together, with long names."""
    values = [0.25, "a long name of a setting that needs much room on any page", 1.0, 2.0]
    records = [
        together("first", overrides={KNOB: values[0]}),
        together("b", 1.01, overrides={KNOB: values[1]}, metrics={"mAP": 0.6, "params": 5e6}),
        together("c", 0.8, overrides={KNOB: values[2]}, metrics={"mAP": 0.4, "params": 6e6}),
        together("d", 0.81, overrides={KNOB: values[3]}, metrics={"mAP": 0.405, "params": 6.1e6}),
    ]
    folder = tmp_path_factory.mktemp("timed")
    return site.write(records, folder, title="A study", findings=worked_out(records))


def worked_out(records: list[Record]) -> Findings:
    """Make what the command adds to a page."""
    shares = [Share("a long name of a knob that needs room", 0.7, 0.5), Share("lr", 0.3, 0.4)]
    names = [f"a class with a long name, {n}" for n in range(12)]
    curves = [[[0.9 - 0.007 * n] * RECALLS for n in range(12)]] * 2
    matrix = [[30 if a == b else (a + b) % 4 for a in range(13)] for b in range(13)]
    found = precise(classes=names, curves=curves, confusion=matrix)
    return Findings(
        Importances([Importance("mAP", shares, 30), Importance("latency_ms", shares, 30)]),
        {record.trial: found for record in records},
        result(),
    )


def test_a_table_filters_compares_and_explains(browser: str, timed: Path, tmp_path: Path) -> None:
    page = with_script(timed, tmp_path, "table.js")
    shown = dom(browser, page, tmp_path / "profile")
    assert (told(shown, "filtered"), told(shown, "counted")) == ("1", "1 of 4 rows")
    assert (told(shown, "nothing"), told(shown, "all")) == ("", "1,2,3,4")
    first = "|+10.0|−10.0|−9.5 / |≈ 1.010 0.990 to 1.030|0.800 0.780 to 0.820|0.810 0.790 to 0.830"
    assert told(shown, "before") == told(shown, "restored") == first
    differences, ratios = told(shown, "after").split(" / ")
    assert differences == "−10.0||−20.0|−19.5"
    assert ratios.startswith("≈ 0.990 0.971 to 1.010||0.792 ")
    assert told(shown, "marked") == "1|2 baseline|3|4"
    assert (told(shown, "hidden"), told(shown, "spans")) == ("true", "0")
    assert told(shown, "asked") == "true: mAP: 60.0"
    assert {"meaning", "trial", "variant", "device", "protocol"} <= {
        *told(shown, "told").split(",")
    }


@pytest.mark.parametrize(
    "width", [360, *(pytest.param(width, marks=pytest.mark.slow) for width in (900, 1600))]
)
def test_nothing_overlaps_or_leaves_its_frame(
    browser: str, timed: Path, tmp_path: Path, width: int
) -> None:
    head = f"<style>html {{ width: {width}px }}</style>"
    page = with_script(timed, tmp_path, "layout.js", head)
    size = f"--window-size={max(width, 500)},1000"
    shown = dom(browser, page, tmp_path / "profile", size)
    assert json.loads(told(shown, "faults")) == []
    assert (int(told(shown, "cut")) > 0) is (width < 1000)


def test_the_pointer_is_told_what_is_under_it(browser: str, timed: Path, tmp_path: Path) -> None:
    page = with_script(timed, tmp_path, "hover.js")
    said = json.loads(told(dom(browser, page, tmp_path / "profile"), "hovered"))
    assert "mAP: 40 %" in said["mAP-latency_ms"]
    assert "end-to-end latency: 8 ms (7.8 to 8.2)" in said["mAP-latency_ms"]
    assert said["published"] == "4: here 40.10, not settled"
    assert re.search(r"found as a class with a long name, \d+: \d+\.\d %, \d", said["confusion"])
    assert re.search(r"recall \d+ %, precision \d+\.\d %", said["precision"])


@pytest.mark.parametrize("scheme", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_print_is_light_and_as_wide_as_paper(
    browser: str, timed: Path, tmp_path: Path, scheme: int
) -> None:
    page = with_script(timed, tmp_path, "print.js")
    option = f"--blink-settings=preferredColorScheme={scheme}"
    said = json.loads(told(dom(browser, page, tmp_path / "profile", option), "printed"))
    assert said["printed"]["widths"] == "980"
    assert said["printed"]["inks"] == "rgb(29, 35, 41)"
    assert 0 < float(said["printed"]["zoom"]) <= 1
    assert said["after"] == said["before"]
    assert "980" not in said["before"]["widths"].split(",")
    assert (said["before"]["inks"] == said["printed"]["inks"]) is (scheme == 1)


def test_a_printed_page_has_its_figures(browser: str, timed: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.pdf"
    command = [option for option in OPTIONS if option != "--dump-dom"]
    profile = tmp_path / "profile"
    subprocess.run(
        [browser, *command, f"--print-to-pdf={file}", f"--user-data-dir={profile}", timed.as_uri()],
        capture_output=True,
        check=True,
        timeout=HANG,
        env={**os.environ, "HOME": str(profile)},
    )
    content = file.read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", content))
    figures = timed.read_text("utf-8").count('class="plot"')
    assert figures // 2 <= pages <= 2 * figures  # none is cut off or lost between blank pages


def test_the_table_is_walked_by_keys(browser: str, timed: Path, tmp_path: Path) -> None:
    page = with_script(timed, tmp_path, "keyboard.js")
    said = json.loads(told(dom(browser, page, tmp_path / "profile"), "keys"))
    last = int(said["steps"][1].partition(",")[2])
    assert said["steps"] == [
        *("0,0", f"0,{last}", f"0,{last}", f"1,{last}"),
        *("1,0", "1,0", "2,0", "3,0", "3,0"),
    ]
    assert (said["inside"], said["back"], said["stops"]) == (True, "3,0", 1)
    assert (said["heads"], said["scrolls"], said["lists"]) == (0, 0, 0)
