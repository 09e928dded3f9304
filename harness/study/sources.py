"""Finds the files of Python behind a module by its imports, and reads them; none of it is run.

Of detbench itself only what is used counts: a package's `__init__` that hands names on leads to the
modules that define them. Of a user's own code every import counts, and so do the packages around a
module, and the files in it that its texts name, such as a table of anchors; where a module is
imported by a name that is made as it runs, its whole package does. Libraries that an installer put
in place, and Python's own, are not followed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.data import cache_dir
from harness.records import source, write_whole
from harness.records.source import Import, Source

OURS = ("detectors", "harness")
SETTLED = int(2e9)  # ns; a file that was written later may be written again with the same times
_KNOWN: dict[str, list[Any]] = {}  # by file: stamp, fingerprint, imports; of this process


class Place(NamedTuple):
    """Where a module lies."""

    file: Path | None  # None for a folder without `__init__`
    folders: list[str] | None  # of its modules; None if it is no package


class Sources:
    """Files of Python as they are now; each is read once in the life of this object."""

    def __init__(self, always: str = "") -> None:
        """Forget what was looked up before.

        Args:
            always: top-level package that counts even where an installer put it in place.
        """
        importlib.invalidate_caches()
        self.always = always
        self.places: dict[str, Place | None] = {}
        self.sources: dict[Path, Source] = {}
        self.cache = cache_dir() / f"sources-{source.FORM}.json"
        self.known = _read(self.cache) | _KNOWN
        self.new = False

    def reach(
        self, roots: Iterable[tuple[str, str | None]], follow: Callable[[str], bool]
    ) -> dict[str, Path]:
        """Return the files that modules need, each under its module's name as a path.

        Args:
            roots: modules, and the name in each that is needed; None for all of it.
            follow: says of a module whether its file, and what that imports, can matter.
        """
        found: dict[str, Path] = {}
        todo = [module for root in roots for module in self._defining(*root, None)]
        seen = set[str]()
        while todo:
            module = todo.pop()
            place = self.place(module)
            if module in seen or place is None:
                continue
            seen.add(module)
            ours = is_ours(module)
            if not ours:
                todo += _around(module)
            if place.file is None:
                continue
            found[_label(module, place)] = place.file
            if not ours:
                todo += self._whole(module, place.file)
                found.update(self._named(module, place.file))
            for item in self.read(place.file).imports:
                if item.used or not ours:
                    written = _absolute(item.module, module, place.folders is not None)
                    needed = self._defining(written, item.name, item.attributes)
                    todo += filter(follow, needed)
        return found

    def read(self, file: Path) -> Source:
        """Read a file, unless it is known by its size, times and inode."""
        if file not in self.sources:
            stamp = _stamp(file)
            known = self.known.get(str(file))
            if known is None or known[0] != stamp:
                found = source.load(file)
                if time.time_ns() - max(stamp[1:3]) > SETTLED:
                    self.known[str(file)] = [stamp, *found]
                    self.new = True
            else:
                found = Source(known[1], [Import(*item) for item in known[2]], *known[3:])
            self.sources[file] = found
        return self.sources[file]

    def _whole(self, module: str, file: Path) -> list[str]:
        """Return all modules of a package, if one of its own imports what only running it tells."""
        top = module.partition(".")[0]
        around = self.place(top)
        if not self.read(file).unknown or around is None or around.folders is None:
            return []
        found = ((Path(folder), item) for folder in around.folders for item in _modules(folder))
        parts = (item.relative_to(folder).with_suffix("").parts for folder, item in found)
        return [".".join((top, *names)).removesuffix(".__init__") for names in parts]

    def _named(self, module: str, file: Path) -> Iterator[tuple[str, Path]]:
        """Yield the files that the texts of a module name, by their place in its package."""
        names = self.read(file).names
        around = module.split(".")[: -1 if file.stem != "__init__" else None]
        for depth, folder in zip(range(len(around), -1, -1), file.parents, strict=False):
            if around and not depth:
                break  # what lies beside a package is none of it
            for name in names:
                named = folder / name
                inside = not Path(name).is_absolute() and ".." not in Path(name).parts
                if inside and named.suffix not in source.PYTHON and _is_readable(named):
                    yield "/".join((*around[:depth], name)), named

    def remember(self) -> None:
        """Keep what was read for the next process."""
        if not self.new:
            return
        self.new = False
        _KNOWN.update(self.known)
        there = {file: known for file, known in self.known.items() if Path(file).is_file()}
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.cache, json.dumps(there, separators=(",", ":")))

    def place(self, module: str) -> Place | None:
        """Find a module without importing it; None for what is not followed, or not there."""
        if module not in self.places:
            package, _, _ = module.rpartition(".")
            around = self.place(package) if package else None
            if not package:
                found = self._top(module)
            elif around is None or around.folders is None:
                found = None
            else:
                found = _within(module, around.folders)
            self.places[module] = found
        return self.places[module]

    def _top(self, name: str) -> Place | None:
        if name in sys.stdlib_module_names:
            return None
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):  # `__main__`, or what was loaded in an odd way
            return None
        found = _placed(spec)
        counts = name in OURS or name == self.always
        return found if counts or found is None or not is_installed(found) else None

    def _defining(
        self, module: str, name: str | None, attributes: Sequence[str] | None
    ) -> Iterator[str]:
        """Yield the modules whose files something needs that uses a name of a module."""
        place = self.place(module)
        if place is None:
            return
        if place.folders is None or name == "*":
            yield module
        elif name is None and attributes is not None and is_ours(module):
            for attribute in attributes:
                yield from self._defining(module, attribute, None)
        elif name is None:
            yield module
        elif self.place(f"{module}.{name}") is not None:
            yield from self._defining(f"{module}.{name}", None, attributes)
        else:
            yield from self._handed_on(module, name, place) or [module]

    def _handed_on(self, module: str, name: str, place: Place) -> list[str]:
        """Return the modules that define what a package of ours only imports."""
        if not is_ours(module) or place.file is None:
            return []
        return [
            defining
            for item in self.read(place.file).imports
            if item.binding == name
            for written in (_absolute(item.module, module, True),)
            for defining in self._defining(written, item.name, None)
        ]


def is_ours(module: str) -> bool:
    """Say whether a module is a part of detbench."""
    return module.partition(".")[0] in OURS


def is_installed(place: Place) -> bool:
    """Say whether an installer put a top-level module where it lies."""
    folders = [Path(folder).parent for folder in place.folders or ()]
    beside = folders or ([place.file.parent] if place.file else [])
    return any(any(folder.glob("*.dist-info")) for folder in beside)


def _placed(spec: ModuleSpec | None) -> Place | None:
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    file = Path(spec.origin) if spec.origin and spec.has_location else None
    if folders is None and file is None:
        return None
    return Place(file, None if folders is None else list(folders))


def _is_readable(file: Path) -> bool:
    return os.path.isfile(file) and os.access(file, os.R_OK)


def _modules(folder: str) -> Iterator[Path]:
    return (file for kind in source.PYTHON for file in Path(folder).rglob(f"*{kind}"))


def _within(module: str, folders: list[str]) -> Place | None:
    """Find a module in the folders of its package, which need not be imported."""
    try:
        return _placed(PathFinder.find_spec(module, folders))
    except KeyError:  # a folder without `__init__`, of a package that is not imported
        name = module.rpartition(".")[2]
        return Place(None, [str(place) for f in folders if (place := Path(f) / name).is_dir()])


def _around(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _absolute(written: str, module: str, is_package: bool) -> str:
    """Return the name of a module as an import in another writes it, be it relative."""
    name = written.lstrip(".")
    level = len(written) - len(name)
    if not level:
        return name
    parts = module.split(".")
    around = parts[: len(parts) - level + is_package]
    return ".".join([*around, *([name] if name else [])])


def _label(module: str, place: Place) -> str:
    assert place.file is not None
    path = module.replace(".", "/")
    return f"{path}{'' if place.folders is None else '/__init__'}{place.file.suffix}"


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(cache: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
