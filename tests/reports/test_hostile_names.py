"""One hostile study through every output: its names stay text in each of them."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.records import Record
from harness.records.importances import Importance, Importances, Share
from reports import panels, paper, site, static
from reports.findings import Findings
from tests.patience import HANG
from tests.reports.conftest import make_record
from tests.reports.test_precision import precise
from tests.reports.test_published import result
from tests.reports.test_site import Page

EVIL = (
    '</script><script>document.title="HIT"</script><img src=x onerror=alert(1)>'
    ' =HYPERLINK("http://x") \\input{/etc/passwd} $x_1^2$ & % # ~ | `y` [z](javascript:1) \u202e'
)
FORMULA = '=cmd|"/c calc"!A1'
KNOB = "recipe.name"
"""A knob's path is checked by studies; its values, classes and files are anyone's."""


def hostile() -> list[Record]:
    details = {"accuracy": {"per_class": {EVIL: 0.5, FORMULA: 0.25}}}
    return [
        make_record(
            f"t{place}-{seed}",
            name=EVIL,
            seed=seed,
            overrides={KNOB: value, EVIL: value},
            caveats={"mAP": EVIL} if place else {},
            data={"name": EVIL, "fingerprint": "f1", "classes": [EVIL]},
            environment={"device": EVIL, "command": [EVIL], "packages": {EVIL: EVIL}},
            details=details,
            metrics={"mAP": 0.5 + 0.1 * place + 0.01 * seed, "params": 4e6 + place},
            curves=[{"epoch": 1.0, "loss": 1.0, EVIL: 1.0}],
        )
        for place, value in enumerate((EVIL, FORMULA))
        for seed in (0, 1)
    ]


def worked_out() -> Findings:
    """Make what the command adds, with names of theirs."""
    cells = result()
    for one in [*cells["cells"], *cells["comparisons"]]:
        one.update({name: EVIL for name in ("row", "column", "first", "second", "reason")})
    cells["tables"][0]["title"] = EVIL
    both = precise(classes=[EVIL, FORMULA])
    return Findings(
        Importances([Importance(EVIL, [Share(EVIL, 0.7, 0.5)], 30)], EVIL),
        {record.trial: both for record in hostile()},
        cells,
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    file = site.write(
        hostile(),
        folder,
        title=EVIL,
        question=EVIL,
        source=EVIL,
        command=EVIL,
        notes=[EVIL],
        findings=worked_out(),
    )
    return file.read_text("utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def saved(page: Page) -> dict[str, str]:
    """Return the files that a page holds, by the ends of their names and in order."""
    files: dict[str, str] = {}
    for _, attrs in page.elements:
        if "download" in attrs:
            content = base64.b64decode(attrs["href"].partition("base64,")[2]).decode()
            files[attrs["download"].removeprefix(EVIL)] = content
    return files


def test_the_page_has_no_element_and_no_script_of_theirs(text: str, page: Page) -> None:
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    ours = re.findall(r"<script(?: type=\"application/json\" id=\"[^\"]+\")?>", text)
    assert len(ours) == len(re.findall(r"<script", text.partition("<script>")[0])) + 2
    assert "javascript:" not in {a.get("href", "")[:11] for _, a in page.elements}


def test_json_inside_the_page_is_whole(page: Page) -> None:
    record = json.loads(page.scripts["record-t0-0"])
    assert record["name"] == EVIL
    told = json.loads(page.scripts["provenance-data"])["note"][0]
    assert f"{EVIL}, seed 0" in [text for _, text in told["facts"]]
    assert EVIL in json.loads(page.scripts["baselines-data"])["trials"][0]["label"]


def test_no_cell_of_any_csv_is_a_formula(page: Page) -> None:
    files = {name: text for name, text in saved(page).items() if name.endswith(".csv")}
    names = (".csv", "-variants.csv", "-effects.csv", "-published.csv", "-order.csv")
    assert files.keys() == set(names)
    for name, content in files.items():
        rows = list(csv.reader(io.StringIO(content)))
        assert len({len(row) for row in rows}) == 1, name
        for cell in (cell for row in rows for cell in row):
            is_number = re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell) is not None
            assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
            assert "\n" not in cell
    assert f"'{FORMULA}" in files[".csv"].replace('""', '"')


def test_latex_has_no_command_of_theirs(page: Page) -> None:
    text = saved(page)[".tex"]
    used = {*re.findall(r"\\([A-Za-z]+)", text)}
    ours = {
        *("begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "par"),
        *(
            "footnotesize",
            "smallskip",
            "linewidth",
            "textbf",
            "underline",
            "pm",
            "textbackslash",
            "textasciitilde",
        ),
        *("textasciicircum", "textless", "textgreater", "textbar", "textasciigrave", "times"),
        *("setlength", "shortstack", "small", "tabcolsep"),
    }
    assert used <= ours
    bare = re.sub(r"\\[\\&%$#_{}]|\\[A-Za-z]+(\{\})?|\$-\$", "", text)
    row = bare.partition("caption")[2]
    assert not set(row) & set("^~#%|`")
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_markdown_is_a_table_without_html(page: Page) -> None:
    text = saved(page)[".md"]
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert not re.findall(r"<(?!/?u>)", text)
    assert "](" not in re.sub(r"\\\]\(", "", text)


NAMES = (
    EVIL, FORMULA, "back\\", "{", "}", "%", "$", "#1", "~", "^", "[2em]", "*", "&", '"', "`", "a_b",
    "日本語", "Кириллица", "😀", "naïve Łódź", "ąęđðþ", "e\u0301", "−3 ≤ 5 ± µ λ “q” ‘s’ —",
    "x" * 300,
)  # fmt: skip


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles_whatever_variants_are_called(tmp_path: Path) -> None:
    records = [make_record(f"t{n}", name=x, overrides={KNOB: x}) for n, x in enumerate(NAMES)]
    table = paper.to_latex(paper.paper(records, "".join(NAMES[2:])))
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "a.tex").write_text(f"{head}{table}\\end{{document}}\n", "utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "a.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "a.pdf").stat().st_size > 10_000


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value
    return (
        [s for each in inner for s in strings(each)]
        if isinstance(value, dict | list | tuple)
        else []
    )


OURS = {"<br>", "<b>", "</b>", "<extra>", "</extra>"}


def test_figures_hold_no_markup_but_their_own() -> None:
    shown = panels.panels(hostile(), findings=worked_out())
    assert {"importance", "published", "precision", "confusion"} <= {one.key for one in shown}
    for drawing in static.drawings(shown):
        assert re.fullmatch(r"[A-Za-z0-9_]+-(column|page)", drawing.name)
        for text in strings(drawing.figure.to_dict()):
            assert set(re.findall(r"<[^>]*>", text)) <= {
                "<br>",
                "<b>",
                "</b>",
                "<extra>",
                "</extra>",
            }


@pytest.mark.browser
def test_svg_is_whole_and_runs_nothing(tmp_path: Path) -> None:
    pytest.importorskip("kaleido")
    (classes,) = (panel for panel in panels.panels(hostile()) if panel.key == "breakdown")
    first, *_ = static.write([classes], tmp_path)
    root = ElementTree.fromstring(first.read_text("utf-8"))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "img", "foreignObject", "a", "image"}
    assert EVIL[:9] in "".join(root.itertext())
