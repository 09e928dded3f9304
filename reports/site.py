"""Pages: records in, one self-contained HTML file out, which loads nothing from anywhere."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from harness.records import FILE, Record, effects, latencies, write_whole
from harness.records.effects import Effects
from harness.records.ranking import rank
from reports import (
    baselines,
    designs,
    display,
    facts,
    panels,
    paper,
    protocols,
    provenance,
    published,
    tables,
    theme,
)
from reports.against import Verdicts
from reports.findings import NONE, Findings
from reports.paper import Paper
from reports.search import Goal

PAGE = "index.html"
LINK = re.compile(r"https?://[^\s<>\"]+[^\s<>\".,;)]|arXiv:\d{4}\.\d{4,5}(?:v\d+)?")


class Failed(NamedTuple):
    """A trial that did not finish."""

    label: str
    cause: str
    message: str
    details: str


def write(
    records: list[Record],
    out: Path,
    *,
    title: str,
    question: str = "",
    source: str = "",
    answer: str = "",
    command: str = "",
    goal: Goal | None = None,
    mixed: bool = False,
    verdicts: Verdicts | None = None,
    findings: Findings = NONE,
    earlier: Sequence[Record] = (),
    notes: Sequence[str] = (),
    plotly: Path | None = None,
) -> Path:
    """Write the page of a study.

    Args:
        records: of one study, in the order they were started.
        out: an .html file, or a folder that gets `index.html`. Records that stand beside the page,
            `TRIAL/record.json`, are linked; others are embedded.
        title: name of the study.
        question: what it is to answer.
        source: the table or paper it repeats; URLs and arXiv numbers become links.
        answer: what it came to, from `harness.analysis.answer`; plain text.
        command: what makes these records again.
        goal: of the search that made these records; None for a sweep.
        mixed: whether trials may have been measured differently; their rows are marked.
        verdicts: how latencies compare with the reference trial's, from `harness.analysis.compare`;
            without, only ratios that records hold are shown.
        findings: what else the command worked out.
        earlier: trials that the study's file no longer asks for: a table of their own, no figure.
        notes: what else is to be said above the table of trials.
        plotly: a plotly.min.js that pages share, written unless it is there; None to have it in the
            page, which then needs no other file.

    Raises:
        MixedProtocols: they were, and it was not allowed.
    """
    if not mixed:
        protocols.refuse(records)
    file = out if out.suffix == ".html" else out / PAGE
    file.parent.mkdir(parents=True, exist_ok=True)
    if plotly is not None and not plotly.is_file():
        plotly.parent.mkdir(parents=True, exist_ok=True)
        write_whole(plotly, get_plotlyjs())
    return write_whole(
        file,
        render(
            records,
            file.parent,
            goal,
            verdicts,
            earlier,
            notes,
            findings,
            quote(os.path.relpath(plotly, file.parent).replace(os.sep, "/")) if plotly else "",
            title=title,
            question=question,
            source=source,
            answer=answer,
            command=command or facts.command(records),
        ),
    )


def render(
    records: list[Record],
    folder: Path,
    goal: Goal | None = None,
    verdicts: Verdicts | None = None,
    earlier: Sequence[Record] = (),
    notes: Sequence[str] = (),
    findings: Findings = NONE,
    plotly_file: str = "",
    **texts: str,
) -> str:
    """Make the page's HTML.

    Args:
        records: of one study, in the order they were started.
        folder: where the page is to stand.
        goal: of a search.
        verdicts: on latencies.
        earlier: trials of an earlier version of the study or of its code.
        notes: as in `write`.
        findings: likewise.
        plotly_file: relative URL of a plotly.min.js; empty to have it in the page.
        texts: title, question, source, answer, command.
    """
    several = tables.has_seeds(records)
    rows = tables.trial_rows(records, verdicts)
    ranking = rank(records)
    found = [] if goal else list(effects.by_metric(ranking).values())
    return (
        environment()
        .get_template("study.html")
        .render(
            **texts,
            facts=facts.facts(records),
            warnings=[*facts.warnings(records), *notes],
            trials=display.trial_table(records, verdicts),
            earlier=display.trial_table(earlier, alone=True) if earlier else None,
            tools={
                "provenance": {
                    "note": list(map(provenance.provenance, records)),
                    "earlier": list(map(provenance.provenance, earlier)),
                },
                "baselines": baselines.baselines(records),
            },
            unranked=ranking.reasons,
            untold=findings.importances.why_not if findings.importances else "",
            published=published.shown(findings.published) if findings.published else None,
            rough=any(latencies.rough(record) is not None for record in records),
            variants=display.variant_table(records) if several else None,
            failed=failed(records),
            effects=effect_tables(found),
            panels=panels.panels(records, goal, ranking, findings),
            legend=panels.legend(records),
            records=[raw(record, folder) for record in records],
            earlier_records=[raw(record, folder) for record in earlier],
            downloads={
                "trials": [
                    *downloads(texts["title"], rows),
                    *for_papers(paper.paper(records, texts["title"])),
                ],
                "variants": downloads(f"{texts['title']}-variants", tables.variant_rows(records)),
                "effects": downloads(f"{texts['title']}-effects", designs.effect_rows(found)),
                **of_published(texts["title"], findings.published),
            },
            theme=theme,
            plotly=lambda: Markup(get_plotlyjs()),
            plotly_file=plotly_file,
        )
    )


class Download(NamedTuple):
    """A file that a page holds."""

    name: str
    label: str
    link: str


def downloads(name: str, rows: list[dict[str, Any]]) -> list[Download]:
    """Offer rows as CSV and JSON."""
    return [
        Download(f"{name}.csv", "CSV", data_uri("text/csv", tables.to_csv(rows))),
        Download(f"{name}.json", "JSON", data_uri("application/json", to_json(rows))),
    ]


def of_published(title: str, found: Mapping[str, Any] | None) -> dict[str, list[Download]]:
    """Offer a published table beside ours, and the pairs of its rows, as they were judged."""
    if found is None:
        return {}
    return {
        "published": downloads(f"{title}-published", found["cells"]),
        "order": downloads(f"{title}-order", found["comparisons"]),
    }


def for_papers(table: Paper) -> list[Download]:
    """Offer a table of variants as LaTeX and Markdown."""
    latex, markdown = paper.to_latex(table), paper.to_markdown(table)
    return [
        Download(f"{table.title}.tex", "LaTeX, a row a variant", data_uri("text/x-tex", latex)),
        Download(f"{table.title}.md", "Markdown", data_uri("text/markdown", markdown)),
    ]


def effect_tables(found: Sequence[Effects]) -> list[tuple[str, display.Table]]:
    """Lay out the effects of the swept knobs, a caption and a table a metric."""
    return [(designs.effect_caption(item), designs.effect_table(item)) for item in found]


def failed(records: Sequence[Record]) -> list[Failed]:
    """List the trials that did not finish, with their causes."""
    return [
        Failed(
            f"#{number} {tables.title(record)}, seed {record.seed}",
            failure.cause.replace("_", " "),
            failure.message,
            failure.details,
        )
        for number, record in enumerate(records, 1)
        if (failure := record.failure) is not None
    ]


class Raw(NamedTuple):
    """A raw record: linked where it stands beside the page, else embedded."""

    trial: str
    link: str
    text: str


def raw(record: Record, folder: Path) -> Raw:
    """Link a record that stands beside the page, or hand over its text."""
    if (folder / record.trial / FILE).is_file():
        return Raw(record.trial, f"{quote(record.trial)}/{FILE}", "")
    return Raw(record.trial, "", record.model_dump_json())


def to_json(rows: Any) -> str:
    """Write rows as JSON."""
    return json.dumps(rows, ensure_ascii=False, indent=1)


def data_uri(kind: str, text: str) -> str:
    """Write a file as a link that holds it, so that a download needs neither server nor script."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def embed(text: str) -> Markup:
    """Make JSON safe inside a script element."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def breakable(text: str) -> Markup:
    """Let a dotted path break after its dots."""
    return Markup(".<wbr>").join(escape(part) for part in text.split("."))


def coded(text: str) -> Markup:
    """Set what stands in backticks as code, all escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def linked(text: str) -> Markup:
    """Turn URLs and arXiv numbers of a text into links, all else escaped."""
    parts, end = [], 0
    for match in LINK.finditer(text):
        found = match.group()
        target = f"https://arxiv.org/abs/{found[6:]}" if found.startswith("arXiv:") else found
        parts += [escape(text[end : match.start()])]
        parts += [Markup('<a href="{}" rel="noreferrer">{}</a>').format(target, found)]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def environment() -> jinja2.Environment:
    """Return what renders the templates of pages."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"breakable": breakable, "coded": coded, "embed": embed, "linked": linked}
    return made
