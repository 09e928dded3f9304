"""Colours of page and figures: light, dark, and told apart by every kind of colour vision.

Source: the categorical colours are Paul Tol's "bright" scheme, personal.sron.nl/~pault.
"""

from __future__ import annotations

INK = "#1d2329"
FAINT = "#66707a"
GRID = "#e3e6ea"
PAPER = "#fdfdfc"
ALARM = "#b3283f"  # text
SERIES = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#c2a000", "#2aa9c9", "#8a8a8a")
BLUE, RED, GREEN, PURPLE, YELLOW, CYAN, GREY = SERIES

DARK = {
    INK: "#e4e7ea",
    FAINT: "#9aa4ae",
    GRID: "#30363c",
    PAPER: "#16191c",
    ALARM: "#f2848f",
    BLUE: "#6f9fd0",
    RED: "#f2848f",
    GREEN: "#4fb462",
    PURPLE: "#d06ba3",
    YELLOW: "#d9bb2f",
    CYAN: "#66ccee",
    GREY: "#a5a5a5",
}
"""Light colour: what stands for it in the dark."""

STAGES = {"backbone_ms": BLUE, "neck_ms": CYAN, "head_ms": YELLOW, "nms_ms": RED}
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
