"""Whether figures can be drawn as files here: looked at before anything slow is imported."""

from __future__ import annotations

import importlib.util


class StaticError(ValueError):
    """Why no file can be drawn here."""


def check() -> None:
    """Refuse to draw where nothing can.

    Raises:
        StaticError: kaleido or a browser is missing.
    """
    if importlib.util.find_spec("kaleido") is None:
        raise StaticError("--figures needs kaleido: pip install 'detbench[static-plots]'")
    import kaleido  # optional
    from kaleido.errors import ChromeNotFoundError  # optional

    try:
        kaleido.Kaleido()
    except ChromeNotFoundError as error:
        raise StaticError(
            "--figures needs Chrome or Chromium, and none is here: install it, or name it in"
            " BROWSER_PATH"
        ) from error
