"""Every named detector, and how a name becomes a config."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from detectors.config import KnobError
from detectors.rtdetr import HGNETV2_L, HGNETV2_X, R18, R34, R50, R50_M, R101
from detectors.rtmdet import NANO, TINY, L, M, S, X

if TYPE_CHECKING:
    from detectors.interface import DetectorConfig

CONFIGS: dict[str, DetectorConfig] = {
    "rtmdet_nano": NANO,
    "rtmdet_tiny": TINY,
    "rtmdet_s": S,
    "rtmdet_m": M,
    "rtmdet_l": L,
    "rtmdet_x": X,
    "rtdetr_r18": R18,
    "rtdetr_r34": R34,
    "rtdetr_r50_m": R50_M,
    "rtdetr_r50": R50,
    "rtdetr_r101": R101,
    "rtdetr_hgnetv2_l": HGNETV2_L,
    "rtdetr_hgnetv2_x": HGNETV2_X,
}
"""Every named detector; families one after the other, smallest first."""
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")  # of a module: words with dots between them


def names() -> list[str]:
    """Return the names of all detectors."""
    return list(CONFIGS)


def is_trusted(name: str, trusted: Collection[str]) -> bool:
    """Say whether looking a name up runs no code but ours and what the user asked for.

    Args:
        name: as a file of somebody's has it.
        trusted: names that the user gave, on the command line or in a study.
    """
    return name in CONFIGS or ":" not in name or name in trusted


def resolve(name: str) -> DetectorConfig:
    """Return the config that goes by a name.

    A name that is not built in runs the code of the module that it names, so it has to be one that
    the user gave; one that was read from a file goes through `is_trusted` before.

    Args:
        name: one of `names()`, or `package.module:ATTRIBUTE` for a config kept elsewhere.

    Raises:
        KnobError: there is none of that name.
    """
    if name in CONFIGS:
        return CONFIGS[name]
    module, colon, attribute = name.partition(":")
    if colon:
        return _elsewhere(name, module, attribute)
    nearest = difflib.get_close_matches(name, CONFIGS, n=1)
    few = ", ".join(list(CONFIGS)[:6])
    hint = f"; did you mean {nearest[0]}?" if nearest else f". There is {few} and others;"
    raise KnobError(
        f"detector: no {name!r}{hint} `detbench list detectors` names all {len(CONFIGS)}, and a"
        " config of your own is named as package.module:ATTRIBUTE."
    )


def _elsewhere(name: str, module: str, attribute: str) -> DetectorConfig:
    if not _PATH.fullmatch(module) or not attribute.isidentifier():
        raise KnobError(f"detector: {name!r} is no name; expected package.module:ATTRIBUTE")
    with _told(name):
        loaded = importlib.import_module(module)
        config: Any = getattr(loaded, attribute)
    if isinstance(config, type):
        raise KnobError(f"detector: {name!r} is a class; name a config that was made of it")
    if not is_dataclass(config) or not hasattr(config, "build"):
        raise KnobError(
            f"detector: {name!r} is no detector config: expected a dataclass with a method build"
        )
    return cast("DetectorConfig", config)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in one line what a module of the user's own ran into, whatever that is, and where."""
    try:
        yield
    except (Exception, SystemExit) as error:
        module = name.partition(":")[0]
        what = str(error) or type(error).__name__
        if isinstance(error, SystemExit):
            what = f"it ends the program ({error.code!r})"
        elif not isinstance(error, ImportError | AttributeError | KnobError):
            what = f"{type(error).__name__}: {what}"
        raise KnobError(
            f"detector: cannot load {name!r}: {what}{_place(error)}{_namesake(module)}"
        ) from error


def _place(error: BaseException) -> str:
    """Return the line that led to an error, the user's own if there is one; else nothing."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if f.filename not in (__file__, importlib.__file__)]
    read = [frame for frame in outside if not frame.filename.startswith("<")]
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    theirs = tuple(f"{sysconfig.get_path(kind)}{os.sep}" for kind in kinds)
    own = [frame for frame in read if not frame.filename.startswith(theirs)] or read
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def _namesake(module: str) -> str:
    """Say so if a file here is passed over for a module of the same name that came before it."""
    first = module.partition(".")[0]
    found = getattr(sys.modules.get(first), "__file__", None)
    here = [Path(f"{first}.py"), Path(first, "__init__.py")]
    mine = next((file for file in here if file.is_file()), None)
    builtin = first in sys.builtin_module_names
    if (
        mine is None
        or not (builtin or found)
        or (found and mine.resolve() == Path(found).resolve())
    ):
        return ""
    return f"; {mine} has the name of a module of {found or 'Python'}, which is taken: rename it"
