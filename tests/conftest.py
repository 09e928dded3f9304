"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference data that is too large for the repository."""
    beside = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("DETBENCH_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; set DETBENCH_SHARED to its folder")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep rendered data and fingerprints of tests out of the user's cache, and locks apart.

    Tests take turns at measuring with each other, not with what else the machine does.
    """
    folder = tmp_path_factory.getbasetemp()
    together = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    monkeypatch.setenv("DETBENCH_CACHE", str(folder / "cache"))
    monkeypatch.setenv("DETBENCH_LOCKS", str(together / "locks"))
