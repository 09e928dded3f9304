"""A console that shows text as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from harness.cli.text import visible

WIDTH_OF_A_FILE = 200  # of a table, when nobody knows how wide the reader's screen is


class PlainConsole(Console):
    """Shows text as it is written: no markup in it, and nothing that a terminal would obey."""

    def __init__(self, file: TextIO) -> None:
        width = None if file.isatty() else WIDTH_OF_A_FILE
        super().__init__(file=file, width=width, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Lay out whatever is printed."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=visible(segment.text))
