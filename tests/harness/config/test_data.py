from pathlib import Path

import pytest

from detectors.config import KnobError
from harness.config import data, knobs
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


@pytest.mark.parametrize("where", [3, ["coco_split"], {"coco_split": ["val2017"]}, {1: "a"}])
def test_what_selects_images_is_a_value_of_a_field(where: object) -> None:
    with pytest.raises(KnobError, match="^data.where: expected "):
        knobs.turn(knobs.start(None, None, "shapes"), {"data.where": where})


def test_a_field_that_selects_images_is_a_knob() -> None:
    start = knobs.start(None, None, "shapes")
    whole = knobs.turn(start, {"data.where": {"coco_split": "val2017"}})
    assert whole == knobs.turn(start, {"data.where.coco_split": "val2017"})
    assert whole.flat()["data.where"] == {"coco_split": "val2017"}
    assert whole != start
