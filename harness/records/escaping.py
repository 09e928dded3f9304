"""Text that others wrote, made harmless where it is put: CSV, LaTeX and Markdown.

Names of studies, classes, knobs and files are anyone's. HTML is escaped by the templates of pages.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute.

Source: OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection.
"""
_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "{''}",
    "`": r"\textasciigrave{}", "[": "{[}", "*": "{*}",
    "–": "--", "−": "$-$", "×": r"$\times$", "≈": r"$\approx$", "±": r"$\pm$", "°": r"$^\circ$",
    "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$", "…": r"\ldots{}",
    "“": "``", "”": "''", "‘": "{`}", "’": "'", "—": "---",
}  # fmt: skip
LAST_LATIN = 0x17F
NOT_IN_OT1 = "ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ"
"""Latin letters up to `LAST_LATIN` that LaTeX's default encoding of fonts has no way to set."""


def in_csv(value: Any) -> Any:
    """Return a value of a cell on one line, which no spreadsheet computes; numbers stay."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    is_formula = value.startswith(FORMULA) or text.startswith(FORMULA)
    return f"'{text}" if is_formula and not _is_number(text) else text


def in_latex(text: str) -> str:
    r"""Escape what LaTeX would read as more than text.

    Signs, and letters that pdfLaTeX's default fonts lack, become numbers; XeLaTeX and LuaLaTeX,
    which have `\Umathchar`, are given those letters. A bracket or a star is in braces, as one
    that begins a row would belong to the command before it.
    """
    composed = unicodedata.normalize("NFC", visible(text))
    runs = itertools.groupby(composed, key=_is_lacking)
    return "".join(_lacking(run) if lacks else "".join(map(_known, run)) for lacks, run in runs)


def _is_lacking(letter: str) -> bool:
    """Say whether it is a letter that pdfLaTeX stops at."""
    is_letter = unicodedata.category(letter)[0] in "LM" and letter not in _LATEX
    return is_letter and (ord(letter) > LAST_LATIN or letter in NOT_IN_OT1)


def _lacking(run: Iterable[str]) -> str:
    letters = list(run)
    numbers = "".join(map(_number, letters))
    return rf"{{\ifdefined\Umathchar {''.join(letters)}\else {numbers}\fi}}"


def _known(letter: str) -> str:
    is_text = letter.isascii() or unicodedata.category(letter)[0] in "LM"
    return _LATEX.get(letter, letter if is_text else _number(letter))


def _number(letter: str) -> str:
    return f"{{[}}U+{ord(letter):04X}]"


def in_markdown(text: str) -> str:
    """Escape what Markdown or HTML would read as more than text."""
    return re.sub(r"([\\|*_`\[\]])", r"\\\1", visible(text)).replace("<", "&lt;")


def visible(text: str) -> str:
    """Return a text on one line, without letters that do not show or turn the others around."""
    kept = (c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return "".join(kept)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None
