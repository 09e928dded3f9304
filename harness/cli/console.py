"""What the terminal shows: tables of results, and values as they stand in lines."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, cast

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from harness.cli.plain import PlainConsole
from harness.cli.streams import Careless
from harness.cli.text import visible

DASH = "-"
INDENT = 4  # columns, of what is said of a name
WIDEST = 100  # columns, of a line that is easy to read


def stdout() -> PlainConsole:
    """Return the console for results."""
    return PlainConsole(sys.stdout)


def stderr() -> PlainConsole:
    """Return the console for logs and bars."""
    return PlainConsole(cast("TextIO", Careless(sys.stderr)))


def print_json(value: Any) -> None:
    """Print a result for machines, alone on stdout; what is not ASCII is spelled out."""
    print(json.dumps(value, indent=1, default=str))


def clock(seconds: float) -> str:
    """Write a duration as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def latency(figures: Mapping[str, Any], *, rough: bool = False, digits: int = 3) -> str | None:
    """Write an end-to-end latency with its interval, marked if it is rough; None if there is none.

    Args:
        figures: metrics of a record, or a row of a table.
        rough: whether it may not be ranked.
        digits: behind the point.
    """
    median, low, high = (figures.get(f"latency_{end}ms") for end in ("", "low_", "high_"))
    if median is None:
        return None
    text = f"{'~' if rough else ''}{median:.{digits}f}"
    return (
        text if low is None or high is None else f"{text} ({low:.{digits}f} to {high:.{digits}f})"
    )


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """Lay out rows.

    Args:
        columns: key of a row: heading; numbers are set to the right.
        rows: plain values; None is shown as a dash.
        title: stands above.
    """
    result = Table(title=visible(title) or None, title_justify="left", header_style="bold")
    for key, heading in columns.items():
        numeric = key in METRICS or any(isinstance(row.get(key), int | float) for row in rows)
        justify: JustifyMethod = "right" if numeric else "left"
        result.add_column(visible(heading), justify=justify, overflow="fold")
    for row in rows:
        result.add_row(*(plain_text(_cell(key, row.get(key))) for key in columns))
    return result


def entry(name: str, *texts: str) -> None:
    """Print a name on a line of its own and what is to be said of it below, for narrow screens.

    Args:
        name: is bold on a terminal.
        texts: a paragraph each; empty ones are left out.
    """
    out = stdout()
    out.print(Text(name, style="bold"))
    for text in filter(None, texts):
        lines = textwrap.wrap(text, min(out.width, WIDEST) - INDENT, break_on_hyphens=False)
        out.print(textwrap.indent("\n".join(lines), " " * INDENT), soft_wrap=True)


def plain_text(text: str) -> Text:
    """Return text for a table, spelled out before the widths of its columns are known."""
    return Text(visible(text))


def _cell(key: str, value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if key.startswith(("macs", "flops")):
        return f"{value / 1e9:.3f}"
    if key.startswith("params"):
        return f"{value / 1e6:.3f}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


METRICS = {
    "mAP": "mAP",
    "params": "params (M)",
    "macs": "MACs (G)",
    "flops": "FLOPs (G)",
    "latency_ms": "latency (ms)",
    "network_ms": "network (ms)",
    "nms_ms": "NMS (ms)",
}


OLD = " (other code)"
NOTHING = " !"
REMARKS = {
    "latency_rough": "~ rough, not ranked",
    "other_code": "other code",
    "learnt_nothing": "! learnt nothing",
}
"""Key of a row: how the line below the table begins that says why it is there."""


def _marked(key: str, row: Mapping[str, Any]) -> str | None:
    """Write a time of a row's, marked if the row's latency is rough."""
    if row.get(key) is None:
        return None
    return ("~" if row.get("latency_rough") else "") + _cell(key, row[key])


def remarks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say below a table which of its rows are not to be trusted, and why; equal reasons once."""
    found = []
    for key, lead in REMARKS.items():
        about: dict[str, list[str]] = {}
        for row in rows:
            if row.get(key):
                about.setdefault(row[key], []).append(f"#{row['number']}")
        found += [f"{lead}: {', '.join(numbers)}: {why}" for why, numbers in about.items()]
    return found


def trials(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Lay out the trials of a study beside their differences to the first.

    Args:
        rows: as `reports.tables.trial_rows` makes them.
        title: stands above.
    """
    shown = [
        {
            **row,
            "name": (row["name"] or row["detector"]) + (OLD if row.get("other_code") else ""),
            "latency_ms": latency(row, rough=row.get("latency_rough") is not None),
            "mAP": _cell("mAP", row.get("mAP")) + (NOTHING if row.get("learnt_nothing") else ""),
            "nms_ms": _marked("nms_ms", row),
            "difference": difference(row),
            "state": row["state"] if row["state"] == "done" else f"{row['state']}: {row['cause']}",
        }
        for row in rows
    ]
    columns = {"number": "#", "name": "trial"}
    if len({row["seed"] for row in rows}) > 1:
        columns["seed"] = "seed"
    if len({row.get("protocol") for row in rows}) > 1:
        columns["protocol"] = "protocol"
    columns |= {key: head for key, head in METRICS.items() if key not in ("flops", "network_ms")}
    columns |= {"difference": "against the first"}
    if any(row["state"] != "done" for row in rows):
        columns["state"] = "state"
    return table(columns, shown, title)


def difference(row: Mapping[str, Any]) -> str | None:
    """Write a trial's difference to the first: points of mAP, share of parameters, latency."""
    parts = []
    if row.get("mAP_delta") is not None:
        parts.append(f"mAP {row['mAP_delta']:+.1f} points")
    if row.get("params_delta") is not None:
        parts.append(f"params {row['params_delta']:+.1f} %")
    if row.get("latency_ratio") is not None:
        parts.append(_ratio(row))
    return ", ".join(parts) or None


def _ratio(row: Mapping[str, Any]) -> str:
    low, high = row.get("latency_ratio_low"), row.get("latency_ratio_high")
    if low is None or high is None:
        return f"latency x{row['latency_ratio']:.2f}"
    interval = f"x{row['latency_ratio']:.2f} ({low:.2f} to {high:.2f})"
    return f"latency tied, {interval}" if row.get("latency_tie") else f"latency {interval}"
