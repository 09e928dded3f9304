"""The summary of a device as a table, in Markdown and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
div { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ccc; text-align: left; }
:root { color-scheme: light dark; }
"""
COLUMNS = ("model", "runtime", "precision", "latency (ms)", "network (ms)", "NMS (ms)", "what else")


def cells(facts: Mapping[str, Any]) -> list[Sequence[str]]:
    """Return the rows of the table of latencies; what is absent says why."""
    return [_cells(row) for row in facts["models"]]


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    if "latency_ms" not in row:
        return (row["model"], row["runtime"], row["precision"], "–", "–", "–", _why(row))
    value, low, high = (row.get(f"latency{part}_ms") for part in ("", "_low", "_high"))
    latency = f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low and high else "")
    parts = [f"{row[name]:.3f}" if name in row else "–" for name in ("network_ms", "nms_ms")]
    notes = [f"NMS: {_why(row, 'nms_ms')}"] if "nms_ms" not in row else []
    caveats = (part for text in row.get("caveats", {}).values() for part in text.split("; "))
    told = "; ".join([*notes, *dict.fromkeys(caveats)])
    return (row["model"], row["runtime"], row["precision"], latency, *parts, told)


def _why(row: Mapping[str, Any], name: str = "latency_ms") -> str:
    return str(row.get("absent", {}).get(name, "not told"))


def device(facts: Mapping[str, Any]) -> str:
    """Name the device as its maker does."""
    about = facts["environment"]
    gpu, cpu = about.get("gpu") or {}, about.get("cpu") or {}
    return str(gpu.get("name") or cpu.get("model") or facts["device"])


def where(facts: Mapping[str, Any]) -> str:
    """Name the device, the software and the images in a sentence."""
    about = facts["environment"]
    packages = about.get("packages", {})
    versions = [f"{name} {packages[name]}" for name in ("torch", "torchvision") if name in packages]
    python = [f"Python {about['python']}"] if "python" in about else []
    software = ", ".join(python + versions)
    images = "photographs" if facts["photographs"] else "rendered scenes (no photographs given)"
    shape = f"batch 1, {facts['size']} x {facts['size']} pixels"
    return f"{device(facts)}; {software or 'versions unknown'}; {shape}, {images}"


def steps(facts: Mapping[str, Any]) -> list[Sequence[str]]:
    """Return what became of each step."""
    return [
        (
            step["about"],
            step["state"],
            f"{step['seconds']:.0f} s" if "seconds" in step else "–",
            step.get("reason", ""),
        )
        for step in facts["steps"]
    ]


def page(facts: Mapping[str, Any]) -> str:
    """Return the page, which needs no other file."""
    return "\n".join(
        [
            "<!doctype html><html lang='en'><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width'>",
            f"<title>{escape(device(facts))}</title><style>{STYLE}</style>",
            f"<h1>Latency on {escape(device(facts))}</h1><p>{escape(where(facts))}.</p>",
            _html(COLUMNS, cells(facts)),
            "<h2>What was done</h2>",
            _html(("step", "state", "time", "reason"), steps(facts)),
            "</html>\n",
        ]
    )


def markdown(facts: Mapping[str, Any]) -> str:
    """Return both tables in Markdown."""
    return "\n\n".join(
        [
            f"{where(facts)}; begun {facts['begun']}.",
            _markdown(COLUMNS, cells(facts)),
            _markdown(("step", "state", "time", "reason"), steps(facts)),
        ]
    )


def _html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    inside = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div tabindex='0'><table>\n{inside}\n</table></div>"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
