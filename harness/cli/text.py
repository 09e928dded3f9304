"""Text from files that others may have written, as it is shown on a terminal."""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and new line; ESC among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # that turn the direction of writing around
    "\u2028\u2029\ud800-\udfff]"  # other ends of lines, and halves of characters
)


def visible(text: str) -> str:
    """Spell out what a terminal would obey and not show, such as the sequences that ESC begins."""
    return _UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """Print a line on stdout."""
    print(visible(text))
