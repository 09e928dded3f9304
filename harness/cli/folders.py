"""Places that commands write to, looked at before anything is worked out for them."""

from __future__ import annotations

import os
from pathlib import Path

from harness.study import StudyError

PAGE, HTML = ".md", ".html"
HEAD = 200  # bytes, of which plotly.js begins with its name
FORMS = (".tex", ".csv", ".json")
"""Endings of the files of a table, which are written together."""


def check_folder(out: Path, option: str = "--out") -> None:
    """Refuse a folder that can be neither made nor written into.

    Args:
        out: named by the user.
        option: that named it.

    Raises:
        StudyError: something on the way is no folder, or closed.
    """
    near = next(path for path in (out, *out.parents) if os.path.lexists(path))
    if not near.is_dir():
        raise StudyError(f"{option} {out}: {near} is no folder; name another folder with {option}")
    if not os.access(near, os.W_OK | os.X_OK):
        raise StudyError(
            f"{option} {out}: {near} cannot be written; name another folder with {option}"
        )


def check_file(out: Path, option: str = "--out") -> None:
    """Refuse a file that cannot be written; see `check_folder`."""
    if out.is_dir():
        raise StudyError(f"{option} {out}: is a folder; name a file with {option}")
    check_folder(out.parent, option)


def check_page(out: Path, ending: str) -> None:
    """Refuse a place that is a file if it has an ending, else a folder."""
    if out.suffix == ending:
        check_file(out)
    else:
        check_folder(out)


def check_plotly(file: Path) -> None:
    """Refuse a plotly.min.js that cannot be written, or that is another file already.

    Raises:
        StudyError: as `check_file`; pages would show nothing with what lies there.
    """
    check_file(file, "--plotly")
    if file.is_file():
        with file.open("rb") as opened:
            head = opened.read(HEAD)
        if b"plotly.js" not in head:
            raise StudyError(
                f"--plotly {file}: holds something else than plotly.js; name a new file"
            )


def check_tables(out: Path) -> None:
    """Refuse a place for published tables: a folder, or a page on how far all are.

    Raises:
        StudyError: it cannot be written, or is named like one of the files in that folder.
    """
    if out.suffix in FORMS:
        raise StudyError(
            f"--out {out}: a table is written as Markdown, LaTeX, CSV and JSON into a folder; name"
            f" one with --out, such as {out.with_suffix('')}"
        )
    check_page(out, PAGE)


def refuse_taken(out: Path, command: str) -> None:
    """Refuse a folder that holds anything, so that nothing is written over.

    Args:
        out: named by the user.
        command: that would write into it.

    Raises:
        StudyError: it holds something, or is a file.
    """
    try:
        is_file = os.path.lexists(out) and not out.is_dir()
        is_taken = out.is_dir() and next(out.iterdir(), None) is not None
    except OSError as error:
        raise StudyError(
            f"{out}: cannot be read: {error.strerror}; name a new folder with --out"
        ) from error
    if is_file:
        raise StudyError(f"{out}: is a file; name a new folder with --out")
    if is_taken:
        raise StudyError(
            f"{out}: holds something already, and {command} writes over nothing; name a new folder"
            f" with --out, such as {out / command}"
        )
