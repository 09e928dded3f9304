"""Which files lie behind a module, found by its imports and not by running it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.study import sources
from harness.study.sources import Sources


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on the path."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def write(folder: Path, **files: str) -> None:
    """Write modules; `__` in a name stands for a folder."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def behind(module: str, always: str = "") -> list[str]:
    found = Sources(always).reach([(module, None)], lambda module: True)
    return sorted(found)


def test_modules_that_are_imported_in_whatever_way(own: Path) -> None:
    write(
        own,
        own_a__main="from . import beside\nimport own_b, own_a.deep.leaf\nfrom own_c import *",
        own_a__beside="def f():\n    from ..own_a.late import x\n    import own_d.one",
        own_a__late="x = 1",
        own_a__deep__leaf="raise SystemExit  # nothing is run",
        own_a__nobody="import own_nobody",
        own_b="import numpy, json, not_there\nimport own_a.main",
        own_c="x: 'own_nobody.X' = 1",
        own_d__one="",
        own_nobody="",
    )
    for name in ("own_a", "own_a/deep"):
        (own / name / "__init__.py").write_text("")
    assert behind("own_a.main") == [
        *("own_a/__init__.py", "own_a/beside.py", "own_a/deep/__init__.py", "own_a/deep/leaf.py"),
        *("own_a/late.py", "own_a/main.py", "own_b.py", "own_c.py", "own_d/one.py"),
    ]
    assert not {name for name in sys.modules if name.startswith("own_")}


def test_modules_that_are_imported_by_a_call(own: Path) -> None:
    write(
        own,
        own_g__main="import importlib\nimportlib.import_module('own_h')",
        own_g__beside="from importlib import import_module\nimport_module('.leaf', __package__)",
        own_g__leaf="",
        own_g__chosen="import importlib\ndef f(name): importlib.import_module(f'own_g.{name}')",
        own_g__deep__any="import own_i",
        own_h="",
        own_i="",
    )
    (own / "own_g/__init__.py").write_text("")
    assert behind("own_g.main") == ["own_g/__init__.py", "own_g/main.py", "own_h.py"]
    assert "own_g/leaf.py" in behind("own_g.beside")
    whole = behind("own_g.chosen")  # whichever it will be
    assert {"own_g/deep/any.py", "own_g/leaf.py", "own_h.py", "own_i.py"} <= set(whole)


def test_folders_without_init_that_nobody_has_imported(own: Path) -> None:
    write(own, own_l="def f():\n    from own_m.deep.leaf import x", own_m__deep__leaf="x = 1")
    assert behind("own_l") == ["own_l.py", "own_m/deep/leaf.py"]


def test_files_that_texts_name_are_those_of_the_package(own: Path) -> None:
    reads = "HERE / 'tables' / 'a.json', join(HERE, 'b', 'c.txt'), 'above.bin', 'outside.txt'"
    write(own, own_j__deep__main=reads)
    write(own, own_k="'beside.json', '/etc/hostname', 'nothing.json', '../own_k.py', 'a\\0b', ''")
    for name in ("own_j", "own_j/deep"):
        (own / name / "__init__.py").write_text("")
    names = ("own_j/deep/tables/a.json", "own_j/deep/b/c.txt", "own_j/above.bin", "outside.txt")
    for name in (*names, "beside.json"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text("1")
    packages = ["own_j/__init__.py", "own_j/deep/__init__.py", "own_j/deep/main.py"]
    assert behind("own_j.deep.main") == sorted([*names[:3], *packages])
    assert behind("own_k") == ["beside.json", "own_k.py"]
    before = Sources().read(own / "beside.json").fingerprint
    (own / "beside.json").write_text("2")  # read as Python, both would say nothing
    assert Sources().read(own / "beside.json").fingerprint != before


def test_what_an_installer_put_in_place_counts_only_if_it_is_the_detector(own: Path) -> None:
    write(own, installed="import installed_too", installed_too="")
    (own / "installed-1.0.dist-info").mkdir()
    assert behind("installed") == []
    assert behind("installed", always="installed") == ["installed.py"]


def test_names_that_our_packages_hand_on_lead_to_where_they_are_defined() -> None:
    found = Sources().reach([("detectors.assigners", "SimOTA")], lambda module: True)
    assert "detectors/assigners/dynamic.py" in found
    assert not {"detectors/assigners/__init__.py", "detectors/assigners/fcos.py"} & set(found)
    whole = Sources().reach([("detectors.assigners", "AnyAssigner")], lambda module: True)
    assert {"detectors/assigners/__init__.py", "detectors/assigners/fcos.py"} <= set(whole)


def test_a_file_is_read_again_when_anything_about_it_changed(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SETTLED", 0)
    write(own, own_e="x = 1")
    file = own / "own_e.py"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    first = Sources()
    before = first.read(file).fingerprint
    first.remember()
    assert Sources().known[str(file)][1] == before
    file.write_text("x = 2")
    os.utime(file, ns=times)  # as `rsync -t` does: the same size and time
    assert Sources().read(file).fingerprint != before


def test_a_file_that_was_written_just_now_is_not_remembered(own: Path) -> None:
    write(own, own_f="x = 1")
    found = Sources()
    found.read(own / "own_f.py")
    found.remember()
    assert str(own / "own_f.py") not in Sources().known


def test_a_damaged_cache_only_costs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_KNOWN", {})
    before = behind("detectors.losses")
    found = Sources()
    found.reach([("detectors.losses", None)], lambda module: True)
    found.remember()
    assert found.cache.is_file()
    for text in ("{", "[]", "\x00"):
        found.cache.write_text(text)
        monkeypatch.setattr(sources, "_KNOWN", {})
        assert behind("detectors.losses") == before
