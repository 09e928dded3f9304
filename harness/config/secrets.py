"""Passwords and tokens in URLs, which are kept out of all that is shown or written."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote

MASK = "***"
SHORTEST = 4  # letters of a secret that is looked for by itself: shorter ones are in other words
FILES = ("sqlite", "file")  # schemes whose rest is a path, with question marks of its own

_PASSWORD = re.compile(r"""([a-z][a-z0-9+.-]*://[^\s/:@"'<>]*):([^\s"'<>]*)@""", re.IGNORECASE)
_TOKEN = re.compile(r"""(https?://)([^\s/:@"'<>]+)@""", re.IGNORECASE)
_QUERY = re.compile(r"""([a-z][a-z0-9+.-]*)(://[^\s?#"'<>]*[?#])([^\s"'<>]*)""", re.IGNORECASE)
_GIVEN = re.compile(
    r"(?:--[\w-]+=)?(?:https?://(?P<token>[^/:@]+)|"
    r"(?:[a-z][a-z0-9+.-]*://|(?![a-z0-9+.-]*://))[^/:@]*:(?P<password>.+))@",
    re.IGNORECASE | re.DOTALL,
)
"""What a URL by itself begins with, or an option with one: its password may hold any letter.
One whose scheme was forgotten is known, too."""
_CUT = re.compile(r"[/@:?#]")
_VALUE = re.compile(r"=[^&#;]*")


def masked(text: str, *urls: str | None) -> str:
    """Return a text without the passwords and tokens of the URLs in it.

    Args:
        text: a URL, or a message with some in it.
        urls: whose secrets may be in the text by themselves, too.
    """
    for secret in sorted({item for url in urls if url for item in _secrets(url)}, key=len)[::-1]:
        text = text.replace(secret, MASK)
    text = _TOKEN.sub(rf"\g<1>{MASK}@", _PASSWORD.sub(rf"\g<1>:{MASK}@", text))
    return _QUERY.sub(_without_values, text)


def _without_values(found: re.Match[str]) -> str:
    scheme, place, query = found.groups()
    if scheme.partition("+")[0].lower() in FILES:
        return found.group()
    return f"{scheme}{place}{_VALUE.sub(f'={MASK}', query)}"


def _pieces(password: str) -> list[str]:
    """Return a password, and what of it others may show who take a URL apart at each `/` or `@`."""
    ends = (password[cut.end() :] for cut in _CUT.finditer(password))
    return [password, *ends, *_CUT.split(password)]


def _secrets(url: str) -> list[str]:
    """Return the secrets of a URL as they stand in it, are meant, and are sent by others."""
    given, query = _GIVEN.match(url), _QUERY.match(url)
    found = _pieces(given["password"] or given["token"]) if given else []
    if query and _without_values(query) != url:
        found += [value for _, value in parse_qsl(query.group(3))]
    spelt = (text for item in found for text in (item, unquote(item), quote(unquote(item))))
    return [text for text in spelt if len(text) >= SHORTEST]
