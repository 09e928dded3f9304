"""What a refusal offers in place of a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FEW = 6  # names in a line


def offer(word: str, known: Iterable[str], every: str = "", lead: str = "There is") -> str:
    """Go on after a name that there is not: the nearest one, and which there are.

    Args:
        word: the name.
        known: those that there are.
        every: the command that lists all, where they may be too many for a line.
        lead: what stands before the names.

    Returns:
        What follows the name, beginning with a full stop or a semicolon, ending with a full stop.
    """
    names = list(dict.fromkeys(known))
    begun = [name for name in names if word and name.startswith(word)]
    found = begun or difflib.get_close_matches(word, names, n=1)
    near = f"; did you mean {found[0]}?" if found else "."
    if not every or len(names) <= FEW:
        return f"{near} {lead} {', '.join(names)}." if names else near
    if found:
        return f"{near} `{every}` names all {len(names)}."
    few, more = ", ".join(names[:FEW]), len(names) - FEW
    return f"{near} {lead} {few} and {more} more; `{every}` names all."
