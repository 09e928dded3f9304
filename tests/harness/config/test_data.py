from pathlib import Path

import pytest

from harness.config import data
from harness.config.data import DataError, cache_dir


def test_a_user_without_a_home_is_asked_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(name: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(data.platformdirs, "user_cache_dir", homeless)
    assert cache_dir() == Path(data.os.environ["DETBENCH_CACHE"])
    monkeypatch.delenv("DETBENCH_CACHE")
    with pytest.raises(DataError, match="no home folder .* name a folder in .DETBENCH_CACHE"):
        cache_dir()
