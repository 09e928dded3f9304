import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports import frontier, site
from tests.reports.conftest import Make
from tests.reports.test_frontier import advised

LOADING = {"src", "srcset", "href", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """Collects elements and the text inside them, scripts apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: item or "" for name, item in attrs}
        self.elements.append((tag, found))
        self._script = found.get("id", "") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]


@pytest.fixture
def page(make: Make, failing: Make, tmp_path: Path) -> Page:
    records = [make("a"), make("b", seed=1), failing("c", seed=2)]
    source = "RTMDet, arXiv:2212.07784, https://example.org/page."
    file = site.write(records, tmp_path / "out", title="A <study>", question="Q?", source=source)
    assert file == tmp_path / "out" / "index.html"
    return Page(file.read_text(encoding="utf-8"))


def test_the_page_has_its_parts(page: Page) -> None:
    assert {"trials", "failed", "variants", "stages", "spread", "order", "curves"} <= {*page.ids()}
    assert "A <study>" in page.text
    assert "needs 9 GB of 8 GB" in page.text


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attrs in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in LOADING & attrs.keys():
            citation = tag == "a" and name == "href" and attrs.get("rel") == "noreferrer"
            assert citation or re.match(r"#|data:", attrs[name]), (tag, attrs[name][:80])


def test_the_browser_is_told_to_load_nothing(page: Page) -> None:
    policy = next(attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_citations_are_links(page: Page) -> None:
    links = [a["href"] for tag, a in page.elements if a.get("rel") == "noreferrer"]
    assert links == ["https://arxiv.org/abs/2212.07784", "https://example.org/page"]


def test_figures_and_records_are_embedded(page: Page) -> None:
    assert json.loads(page.scripts["figure-stages"])["data"]
    record = json.loads(page.scripts["record-a"])
    assert record["samples"]["latency_ms"] == [10.0, 9.0, 11.0, 30.0]


def test_tables_can_be_downloaded(page: Page) -> None:
    links = {a["download"]: a["href"] for _, a in page.elements if "download" in a}
    content = base64.b64decode(links["A <study>.json"].partition("base64,")[2])
    assert [row["trial"] for row in json.loads(content)] == ["a", "b", "c"]
    table = base64.b64decode(links["A <study>.csv"].partition("base64,")[2]).decode()
    assert table.startswith("number,trial,")


def test_a_record_beside_the_page_is_linked_instead(make: Make, tmp_path: Path) -> None:
    record = make("a")
    record.write(tmp_path / "a")
    page = Page(site.write([record], tmp_path / "page.html", title="t").read_text("utf-8"))
    assert "a/record.json" in [attrs.get("href") for _, attrs in page.elements]
    assert "record-a" not in page.scripts


def test_names_are_escaped_everywhere(make: Make, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    overrides = {"recipe.name": evil}
    record = make("a", name=evil, overrides=overrides, caveats={"mAP": evil})
    other = make("b", name=evil, overrides={"recipe.name": "fine"})
    text = site.write(
        [record, other], tmp_path, title=evil, question=evil, source=evil, command=evil
    ).read_text("utf-8")
    assert "<img" not in text.split("<script>")[0]
    assert "img" not in {tag for tag, _ in Page(text).elements}
    assert json.loads(Page(text).scripts["record-a"])["name"] == evil


def test_mixed_records_carry_a_warning(make: Make, tmp_path: Path) -> None:
    records = [make("a"), make("b", protocol_hash="p2", protocol={"data": 2})]
    page = Page(site.write(records, tmp_path, title="t", mixed=True).read_text("utf-8"))
    assert "Trials of 2 protocols share this page" in page.text


def test_the_command_is_shown(make: Make, tmp_path: Path) -> None:
    file = site.write([make()], tmp_path, title="t", command="detbench run quickstart")
    assert "detbench run quickstart" in Page(file.read_text("utf-8")).text


def test_a_study_without_records_has_a_page(tmp_path: Path) -> None:
    page = Page(site.write([], tmp_path, title="t").read_text("utf-8"))
    assert "No trial has a record yet." in page.text


def test_pages_share_one_plotly(make: Make, tmp_path: Path) -> None:
    shared = tmp_path / "shared" / "plotly.min.js"
    for name in ("a", "b"):
        text = site.write([make()], tmp_path / name, title=name, plotly=shared).read_text("utf-8")
        assert '<script src="../shared/plotly.min.js">' in text
        assert len(text) < 5e5
    assert "plotly.js v" in shared.read_text("utf-8")
    shared.write_text("// ours", encoding="utf-8")
    site.write([make()], tmp_path / "a", title="a", plotly=shared)
    assert shared.read_text("utf-8") == "// ours"


def test_the_page_is_written_once_and_about_five_megabytes(make: Make, tmp_path: Path) -> None:
    file = site.write([make()], tmp_path, title="t")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert file.stat().st_size < 5.5e6
    assert file.read_text("utf-8").count("plotly.js v") == 1


def test_commands_in_a_sentence_are_set_as_code_and_stay_text() -> None:
    assert site.coded("`detbench <run>` & more") == "<code>detbench &lt;run&gt;</code> &amp; more"
    assert site.coded("one ` alone") == "one ` alone"


def test_every_heading_and_button_of_a_table_has_a_text(make: Make, tmp_path: Path) -> None:
    study = site.write([make("a")], tmp_path, title="A study").read_text("utf-8")
    for text in (study, frontier.render(advised())):
        tables = "".join(re.findall(r"<table.*?</table>", text, re.DOTALL))
        headings = re.findall(r"<th\b[^>]*>(.*?)</th>", tables, re.DOTALL)
        assert len(headings) > 10
        assert [each for each in headings if not re.sub(r"<[^>]*>", "", each).strip()] == []
