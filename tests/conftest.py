"""Fixtures that every test may use."""

import os
import sys
from collections.abc import Iterator
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
def _own_cache(
    _as_it_was: None,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keep rendered data and fingerprints of tests out of the user's cache, and locks apart.

    Tests take turns at measuring with each other, not with what else the machine does.
    """
    folder = tmp_path_factory.getbasetemp()
    together = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    monkeypatch.setenv("DETBENCH_CACHE", str(folder / "cache"))
    monkeypatch.setenv("DETBENCH_LOCKS", str(together / "locks"))


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """See that a test puts back what it changes of its process, for the tests after it.

    `_own_cache` asks for it, so that monkeypatch, which that needs, puts things back before.
    """
    before = _process()
    yield
    assert _process() == before


SET_BY_LIBRARIES = ("MLFLOW_", "PYTEST_", "GOMP_", "KMP_", "OPENCV_", "QT_", "TORCH", "FOR_")


def _process() -> dict[str, object]:
    """Return what belongs to the whole process, but for what libraries note for themselves."""
    mask = os.umask(0o077)
    os.umask(mask)
    variables = {key: os.environ[key] for key in os.environ if not key.startswith(SET_BY_LIBRARIES)}
    found: dict[str, object] = {"folder": os.getcwd(), "umask": mask, "variables": variables}
    torch = sys.modules.get("torch")
    if hasattr(torch, "get_num_threads"):
        found |= {
            "threads": torch.get_num_threads(),
            "dtype": torch.get_default_dtype(),
            "gradients": torch.is_grad_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }
    return found
