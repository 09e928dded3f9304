"""Which of the loaded modules are the user's own, and so are sent to a cluster's nodes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from harness.engine import own_code, ray_task


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders on the path: `one` and `two`."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for name in ("two", "one"):
        (tmp_path / name).mkdir()
        monkeypatch.syspath_prepend(str(tmp_path / name))
    return tmp_path.resolve()


def found(folder: Path) -> list[str]:
    """List what is the user's own below a folder."""
    places = [Path(place) for place in own_code.loaded()]
    return [str(place.relative_to(folder)) for place in places if folder in place.parents]


def test_packages_and_files_that_are_imported(elsewhere: Path) -> None:
    package = elsewhere / "one" / "own_package" / "inner"
    package.mkdir(parents=True)
    for file in (package / "__init__.py", package.parent / "__init__.py"):
        file.write_text("")
    for name in ("own_file", "own_file_that_nobody_imports"):
        (elsewhere / "two" / f"{name}.py").write_text("")
    assert found(elsewhere) == []
    importlib.import_module("own_package.inner")
    importlib.import_module("own_file")
    assert found(elsewhere) == ["one/own_package", "two/own_file.py"]


def test_every_folder_of_a_package_without_init(elsewhere: Path) -> None:
    for name in ("one", "two"):
        (elsewhere / name / "own_space").mkdir()
        (elsewhere / name / "own_space" / f"in_{name}.py").write_text("")
    importlib.import_module("own_space.in_one")
    assert found(elsewhere) == ["one/own_space", "two/own_space"]


def test_what_an_installer_put_in_place_is_not_ones_own(elsewhere: Path) -> None:
    (elsewhere / "one" / "installed.py").write_text("")
    (elsewhere / "one" / "installed-1.0.dist-info").mkdir()
    importlib.import_module("installed")
    assert found(elsewhere) == []


def test_neither_libraries_nor_python_nor_detbench_are_sent() -> None:
    names = {Path(place).stem for place in own_code.loaded()}
    assert "tests" in names  # loaded from the checkout, as a user's own package would be
    assert names.isdisjoint({"torch", "pytest", "yaml", "json", "logging", "harness", "detectors"})


def test_the_drivers_working_directory_is_looked_through_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", ["/here", "/sent", "/here", "/installed"])
    ray_task._look_last("/here")
    assert sys.path == ["/sent", "/installed", "/here"]
