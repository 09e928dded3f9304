"""COCO 2017 comes whole, checked and unpacked, or one line says what to do."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from detectors import Release
from harness import cli
from harness.config import places
from harness.config.data import DataError
from harness.records.progress import Progress
from harness.released import coco, download
from tests.harness.released.serving import Site, after, cut, page, serving
from tests.patience import HANG, wait_for

PATHS = {
    "annotations": "/annotations/annotations_trainval2017.zip",
    "val": "/zips/val2017.zip",
    "train": "/zips/train2017.zip",
}
BOTH = ("train", "val")


def zipped(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


CONTENT = {
    "annotations": zipped(
        {
            f"annotations/{kind}_{s}2017.json": b"{}"
            for kind in ("instances", "captions")
            for s in BOTH
        }
    ),
    "val": zipped({f"val2017/{n}.jpg": bytes([n]) * 5_000 for n in range(20)}),
    "train": zipped({f"train2017/{n}.jpg": bytes([n]) * 5_000 for n in range(40)}),
}


@pytest.fixture
def served(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """Serve archives with the names of the real ones, and little in them."""
    site.files = {PATHS[name]: content for name, content in CONTENT.items()}
    offer(monkeypatch, site.url)
    monkeypatch.delenv("DETBENCH_COCO", raising=False)
    monkeypatch.chdir(tmp_path)
    return site


def offer(monkeypatch: pytest.MonkeyPatch, site: str, wrong: str = "") -> None:
    archives = {
        name: coco.Archive(
            Release(site + PATHS[name], hashlib.sha256(wrong.encode() or content).hexdigest()),
            len(content),
            coco.ARCHIVES[name].growth,
        )
        for name, content in CONTENT.items()
    }
    monkeypatch.setattr(coco, "ARCHIVES", archives)


def files(folder: Path) -> set[str]:
    """Return what lies in a folder, locks and notes apart."""
    return {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and file.suffix not in (".lock", ".sha256")
    }


VAL = {"annotations/instances_val2017.json", *(f"val2017/{n}.jpg" for n in range(20))}
TRAIN = {"annotations/instances_train2017.json", *(f"train2017/{n}.jpg" for n in range(40))}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join("".join(capsys.readouterr()).split())


def test_the_data_set_comes_to_where_it_is_looked_for(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "get", "coco2017"]) == 0
    assert files(Path("data/coco")) == VAL | TRAIN
    for split in BOTH:
        assert places.locate(places.folder("coco2017"), split).image_folder.is_dir()
    assert "data/coco: has train and val of coco2017" in said(capsys)
    assert len(served.asked) == 3


def test_what_is_here_already_is_said_and_nothing_is_asked_for(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["data", "get", "coco2017", "--split", "val"])
    asked = len(served.asked)
    capsys.readouterr()
    assert cli.main(["data", "get", "coco2017", "--split", "val"]) == 0
    assert "data/coco: already has val of coco2017" in said(capsys)
    assert len(served.asked) == asked


def test_a_split_comes_alone_and_the_other_one_joins_it(served: Site, tmp_path: Path) -> None:
    to = tmp_path / "disk"
    assert cli.main(["data", "get", "coco2017", "--split", "val", "--to", str(to)]) == 0
    assert files(to) == VAL
    assert places.splits(to) == ["val"]
    assert cli.main(["data", "get", "coco2017", "--to", str(to)]) == 0
    assert files(to) == VAL | TRAIN


def test_another_folder_is_told_with_how_it_is_found(
    served: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["data", "get", "coco2017", "--split", "val", "--to", str(tmp_path / "disk")]
    assert cli.main(line) == 0
    assert f"set DETBENCH_COCO={tmp_path / 'disk'} so that" in said(capsys)
    monkeypatch.setenv("DETBENCH_COCO", str(tmp_path / "disk"))
    assert cli.main([*line[:5], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"folder": str(tmp_path / "disk"), "splits": ["val"], "brought": []}


def test_a_folder_of_other_names_is_taken_as_it_is(served: Site, tmp_path: Path) -> None:
    for name in ("annotations", "val"):
        (tmp_path / "own" / name).mkdir(parents=True)
    (tmp_path / "own/annotations/instances_val.json").write_text("{}")
    (part,) = coco.lacking(tmp_path / "own", ["val"])  # the folder of photographs is empty
    assert part.name == "val2017.zip"
    (tmp_path / "own/val/1.jpg").write_bytes(b"")
    assert coco.lacking(tmp_path / "own", ["val"]) == []


def test_a_broken_transfer_goes_on_where_it_broke(served: Site, tmp_path: Path) -> None:
    (_, part) = coco.lacking(tmp_path / "to", ["val"])
    served.answers = [cut(50_000), cut(40_000), cut(0)]
    steps = list[Progress]()
    assert not coco.bring(part, tmp_path / "to", steps.append)
    assert served.began() == [None, "bytes=50000-", "bytes=90000-", "bytes=90000-"]
    assert files(tmp_path / "to") == {f"val2017/{n}.jpg" for n in range(20)}
    assert list(dict.fromkeys(step.phase for step in steps)) == ["download", "check", "unpack"]


def test_what_one_call_left_the_next_goes_on_with(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    served.files.pop(PATHS["annotations"])
    served.answers = [cut(60_000), cut(10), cut(10), cut(10)]
    line = ["data", "get", "coco2017", "--split", "val"]
    assert cli.main(line) == 1
    (broken,) = [row for row in capsys.readouterr().err.splitlines() if "broke off" in row]
    assert "broke off after 60030 of" in broken
    assert f"get {served.url}/zips/val2017.zip where there is a network" in broken
    assert (
        "put it at data/coco/archives/val2017.zip, or name a mirror in $DETBENCH_MIRROR" in broken
    )
    served.files[PATHS["annotations"]] = CONTENT["annotations"]
    assert cli.main(line) == 0
    assert served.began()[-1] == "bytes=60030-"
    assert files(Path("data/coco")) == VAL


def test_a_wrong_hash_is_refused_and_not_kept(
    served: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, served.url, wrong="another file")
    (_, part) = coco.lacking(tmp_path, ["val"])
    with pytest.raises(DataError, match=r"is not the released file: its sha256 begins") as error:
        coco.bring(part, tmp_path)
    assert "\n" not in str(error.value)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("kind", ["text/html", "application/zip"])
def test_a_web_page_is_no_archive(served: Site, tmp_path: Path, kind: str) -> None:
    (_, part) = coco.lacking(tmp_path, ["val"])
    served.answers = [page(kind)]
    with pytest.raises(DataError, match=r"answers with a web page.*val2017\.zip, or name a mirror"):
        coco.bring(part, tmp_path)
    assert not part.is_here(tmp_path)


def test_without_a_network_there_is_a_line_for_each_archive(
    served: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(monkeypatch, "http://127.0.0.1:9")  # where nobody listens
    assert cli.main(["data", "get", "coco2017"]) == 1
    lines = [
        row for row in capsys.readouterr().err.splitlines() if "where there is a network" in row
    ]
    assert [row.partition(":")[0] for row in lines] == [
        "annotations_trainval2017.zip", "val2017.zip", "train2017.zip",
    ]  # fmt: skip


def test_a_mirror_of_weights_is_one_of_this_too(
    served: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, "http://127.0.0.1:9")
    with serving() as mirror:
        mirror.files = {f"/127.0.0.1_9{PATHS[name]}": content for name, content in CONTENT.items()}
        monkeypatch.setenv("DETBENCH_MIRROR", mirror.url)
        assert cli.main(["data", "get", "coco2017"]) == 0
    assert files(Path("data/coco")) == VAL | TRAIN
    assert served.asked == []


@pytest.mark.parametrize(("free", "status"), [(1.0, 2), (1.01, 0)])
def test_room_for_archives_and_photographs_is_seen_to_first(
    served: Site,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: float,
    status: int,
) -> None:
    sizes = {name: len(content) for name, content in CONTENT.items()}
    most = 4 * sizes["annotations"] + sizes["val"] + 2 * sizes["train"]
    monkeypatch.setattr(coco.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * most - 1))
    assert cli.main(["data", "get", "coco2017"]) == status
    text = said(capsys)
    if status:
        assert "coco2017: takes 0.0 GB in data/coco until its archives are unpacked" in text
        assert "GB are free; free some, or name another folder with --to" in text
        assert served.asked == []
        assert not Path("data").exists()


def test_the_real_archives_need_some_forty_gigabytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(coco.shutil, "disk_usage", lambda _: SimpleNamespace(free=39e9))
    with pytest.raises(DataError, match=r"takes 40\.5 GB .* 39\.0 GB are free"):
        coco.check_room(tmp_path / "not/there/yet", coco.lacking(tmp_path / "not/there/yet", BOTH))
    (tmp_path / "archives").mkdir()
    with (tmp_path / "archives/train2017.zip.part").open("wb") as file:
        file.truncate(15_000_000_000)  # of which the disk keeps nothing
    coco.check_room(tmp_path, coco.lacking(tmp_path, BOTH))


def test_a_full_disk_is_one_line(
    served: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, part) = coco.lacking(tmp_path, ["val"])
    monkeypatch.setattr(coco.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(DataError, match="no space left for it; free some, or name .* with --to"):
        coco.bring(part, tmp_path)
    assert served.asked  # it was asked how large it is


def test_an_archive_put_there_by_hand_is_checked_and_stays(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path("data/coco/archives/val2017.zip")
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT["val"][:-9])
    line = ["data", "get", "coco2017", "--split", "val"]
    assert cli.main(line) == 1
    assert "val2017.zip: is cut short; remove it, and it is fetched again" in said(capsys)
    file.write_bytes(CONTENT["val"])
    assert cli.main(line) == 0
    assert f"{file} is not needed any more" in said(capsys)
    assert files(Path("data/coco")) == VAL | {"archives/val2017.zip"}
    assert PATHS["val"] not in [path for path, _ in served.asked]


def test_of_two_at_once_one_brings_it_and_the_other_waits(served: Site, tmp_path: Path) -> None:
    (_, part) = coco.lacking(tmp_path, ["val"])
    gate, begun = threading.Event(), threading.Event()
    served.answers = [after(gate, begun)]
    first = threading.Thread(target=coco.bring, args=(part, tmp_path))
    first.start()
    assert begun.wait(HANG)
    steps = list[Progress]()
    second = threading.Thread(target=coco.bring, args=(part, tmp_path, steps.append))
    second.start()
    wait_for(lambda: steps, "the second one's turn")
    gate.set()
    for thread in (first, second):
        thread.join(HANG)
    assert [step.phase for step in steps] == ["wait"]
    assert len(served.asked) == 1
    assert part.is_here(tmp_path)
    assert not download.partial_of(part.file(tmp_path)).exists()
