"""`detbench weights` lists what there is, and gets it."""

import json
from pathlib import Path

import pytest

from detectors import Release
from harness import cli
from harness.released import cache, catalogue
from tests.harness.released.conftest import site as site  # a fixture
from tests.harness.released.serving import Site

NAMES = ["rtmdet_s/coco", "rtmdet_s/imagenet", "rtdetr_r18/coco"]


def content(name: str) -> bytes:
    return b"\0" + name.encode()


@pytest.fixture
def served(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Serve two of three releases."""
    releases = {name: Release(f"{site.url}/{name}.pth") for name in NAMES}
    entries = [
        catalogue.Entry(name, releases[name], cache.place(releases[name].url)) for name in NAMES
    ]
    monkeypatch.setattr(catalogue, "entries", lambda: entries)
    site.files = {f"/{name}.pth": content(name) for name in NAMES[:2]}
    return site


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    assert cli.main(["weights", "list", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_what_was_got_is_listed_as_here(served: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["here"] for row in listed(capsys).values()] == [False, False, False]
    assert cli.main(["weights", "get", "rtmdet_s", "rtmdet_s/imagenet", "rtmdet_s"]) == 0
    out = capsys.readouterr().out
    found = listed(capsys)
    assert [row["here"] for row in found.values()] == [True, True, False]
    for name in NAMES[:2]:
        file = Path(str(found[name]["file"]))
        assert file.read_bytes() == content(name)
        assert f"{name}: {file}" in out
    assert len(served.asked) == 2


def test_one_that_cannot_be_had_does_not_keep_the_others_away(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["weights", "get", "rtdetr_r18", "rtmdet_s", "--json"]) == 1
    printed = capsys.readouterr()
    assert [row["here"] for row in json.loads(printed.out)] == [False, True]
    (line,) = [line for line in printed.err.splitlines() if line.startswith("rtdetr_r18/coco: ")]
    assert "HTTP 404" in line
    assert str(cache.place(f"{served.url}/rtdetr_r18/coco.pth")) in line


def test_an_unknown_name_is_refused_before_anything_is_fetched(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["weights", "get", "rtmdet_s", "rtmdet_z"]) == 2
    assert "no released weights 'rtmdet_z/coco'" in capsys.readouterr().err
    assert served.asked == []


def test_the_table_says_how_much_of_a_hash_is_published(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    for name, known in (
        ("rtmdet_s/coco", "8 digits of sha256"),
        ("rtdetr_r18/coco", "sha256"),
        ("rtdetr_hgnetv2_x/imagenet", "none"),
    ):
        (row,) = [line for line in out.splitlines() if f" {name} " in line]
        assert f" {known} " in row
    assert f"they go to {cache.folder()}" in out


def test_a_conversion_writes_over_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "training" / "weights.safetensors"
    kept.parent.mkdir()
    kept.write_bytes(b"finished")
    command = ["weights", "convert", str(tmp_path / "graph.onnx"), "--detector", "rtmdet_nano"]
    assert cli.main([*command, "--out", str(kept.parent)]) == 2
    assert "training: holds something already, and convert writes over nothing" in (
        "".join(capfd.readouterr().err.splitlines())
    )
    assert kept.read_bytes() == b"finished"
