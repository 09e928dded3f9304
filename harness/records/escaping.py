"""Text that others wrote, made harmless where it is put: CSV, LaTeX and Markdown.

Names of studies, classes, knobs and files are anyone's. HTML is escaped by the templates of pages.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute.

Source: OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection.
"""
_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "{''}",
    "`": r"\textasciigrave{}",
    "–": "--", "−": "$-$", "×": r"$\times$", "≈": r"$\approx$", "±": r"$\pm$", "°": r"$^\circ$",
    "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$", "…": r"\ldots{}",
    "“": "``", "”": "''", "’": "'",
}  # fmt: skip


def in_csv(value: Any) -> Any:
    """Return a value of a cell on one line, which no spreadsheet computes; numbers stay."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    is_formula = value.startswith(FORMULA) or text.startswith(FORMULA)
    return f"'{text}" if is_formula and not _is_number(text) else text


def in_latex(text: str) -> str:
    """Escape what LaTeX would read as more than text; signs that fonts lack become numbers."""
    return "".join(map(_latex_letter, visible(text)))


def _latex_letter(letter: str) -> str:
    if letter in _LATEX or letter.isascii() or unicodedata.category(letter)[0] in "LM":
        return _LATEX.get(letter, letter)
    return f"[U+{ord(letter):04X}]"


def in_markdown(text: str) -> str:
    """Escape what Markdown or HTML would read as more than text."""
    return re.sub(r"([\\|*_`\[\]])", r"\\\1", visible(text)).replace("<", "&lt;")


def visible(text: str) -> str:
    """Return a text on one line, without letters that do not show or turn the others around."""
    kept = (c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return "".join(kept)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None
