"""Make the pictures of pages from records that are committed: `python -m tests.pictures`.

Of the folders `reports/measured/DEVICE/STUDY` with records, those of `TOPS` and `FIGURES` become
`STUDY.png` beside them: the top of the page that `detbench report` writes, as Chromium draws it, or
the first figures of it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import cli
from tests.rooms import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 1400, 960  # px; the table, and what stands above it
TOPS = ("quickstart",)
"""Studies of whose page the top is drawn."""
FIGURES = {"rehearsal_nms_score_threshold": 590}
"""Studies of which the figures are drawn alone; height in px."""
ALONE = """<style>
main > :not(.panels), body > header, body > footer, .panel .note { display: none }
main > .panels { margin-top: 0 }
</style>"""
"""Leaves a page its figures."""
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
MILLISECONDS_TO_DRAW = 8000


def folders() -> list[Path]:
    """Return the folders of records that have a picture."""
    return [folder for folder in studies() if folder.name in (*TOPS, *FIGURES)]


def studies() -> list[Path]:
    """Return the folders of records that are committed."""
    return sorted(file.parent for file in (ROOT / "reports" / "measured").glob("*/*/study.json"))


def make(folder: Path, place: Path, browser: str) -> Path:
    """Write the page of a folder of records, and its picture beside the folder.

    Args:
        folder: of the records.
        place: an empty one for what is needed in between.
        browser: a Chromium.

    Returns:
        The picture.
    """
    if cli.main(["report", str(folder), "--keep-stale", "--out", str(place)]) != 0:
        raise SystemExit(f"{folder}: no page")
    picture = folder.with_suffix(".png")
    page = place / f"{folder.name}.html"
    if folder.name in FIGURES:
        page.write_text(page.read_text("utf-8") + ALONE, "utf-8")
    height = FIGURES.get(folder.name, HEIGHT)
    size, time = f"--window-size={WIDTH},{height}", f"--virtual-time-budget={MILLISECONDS_TO_DRAW}"
    own = (f"--user-data-dir={place / 'profile'}", f"--screenshot={picture}")
    subprocess.run([browser, *OPTIONS, *own, size, time, page.as_uri()], check=True)
    return picture


def main() -> None:
    """Make them all."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    for folder in folders():
        with tempfile.TemporaryDirectory() as place:
            print(make(folder, Path(place), browser).relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
