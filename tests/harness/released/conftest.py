"""A server of released files, and a cache of one's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.released.serving import Site, serving


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve on this machine, without a proxy."""
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("DETBENCH_MIRROR", raising=False)
    with serving() as site:
        yield site
