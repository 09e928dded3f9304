"""Text of strangers on a terminal."""

import pytest

from harness.cli import console
from harness.cli.board import Board
from harness.cli.text import say, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a plain name, with umlauts äöü, 漢字, and [brackets]\n\tin two lines", None),
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x9b2J\x7f\x00\r\x08", r"\x9b2J\x7f\x00\r\x08"),
        ("\u202egnp.exe\u2069", r"\u202egnp.exe\u2069"),
        ("\ud800", r"\ud800"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)


def test_brackets_colons_and_escapes_are_text_everywhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evil = "[/2212.07784] [bold]b[/bold] :bug: \x1b[2J"
    out = console.stdout()
    out.print(evil)
    out.print(console.table({"name": evil}, [{"name": evil}], evil))
    with Board(out) as board:
        board.say(evil)
        board.begin("a", evil, None)
        out.print(board.table())
    say(evil)
    shown = capsys.readouterr().out
    assert shown.count(r"[/2212.07784] [bold]b[/bold] :bug: \x1b[2J") == 7
    assert "\x1b" not in shown
