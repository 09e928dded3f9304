"""A released file comes whole and right, or not at all, whatever the server does."""

import hashlib
import io
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from detectors import Release
from detectors.interface import WeightsError
from harness.records.progress import Progress
from harness.released import cache, download, transfer
from tests.harness.released.serving import (
    Site,
    after,
    cut,
    drip,
    page,
    redirect,
    refuse,
    serving,
)
from tests.patience import HANG

PATH = "/v1/model.pth"
CONTENT = bytes(range(256)) * 1200  # 307 kB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ROOT = Path(__file__).parents[3]


def release(site: Site, sha256: str | None = SHA256) -> Release:
    site.files.setdefault(PATH, CONTENT)
    return Release(site.url + PATH, sha256)


def fetch(item: Release) -> str:
    return download.fetch(item, cache.place(item.url))


def folder(item: Release) -> dict[str, bytes]:
    """Return what lies beside the file, locks apart."""
    found = cache.place(item.url).parent.iterdir()
    return {each.name: each.read_bytes() for each in found if each.suffix != ".lock"}


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], None])
def test_a_file_comes_with_a_note_of_its_hash(site: Site, sha256: str | None) -> None:
    item = release(site, sha256)
    steps: list[Progress] = []
    assert download.fetch(item, cache.place(item.url), steps.append) == SHA256
    note = f"{SHA256}  model.pth\n".encode()
    assert folder(item) == {"model.pth": CONTENT, "model.pth.sha256": note}
    assert steps.pop().phase == "check"
    assert {step.phase for step in steps} == {"download"}
    assert steps[-1][1:3] == (len(CONTENT), len(CONTENT))
    done = [step.done for step in steps]
    assert done == sorted(done)


def test_what_is_here_is_not_asked_for(site: Site) -> None:
    item = release(site)
    fetch(item)
    fetch(item)
    assert len(site.asked) == 1


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_broken_transfer_goes_on_where_it_broke(site: Site, sha256: str | None) -> None:
    item = release(site, sha256)
    site.answers = [cut(100_000), cut(50_000)]
    assert fetch(item) == SHA256
    assert site.began() == [None, "bytes=100000-", "bytes=150000-"]
    assert folder(item)["model.pth"] == CONTENT


def test_a_later_call_goes_on_with_what_an_earlier_one_left(site: Site) -> None:
    item = release(site)
    site.answers = [cut(1000), cut(10), cut(0)]
    with pytest.raises(WeightsError, match=r"broke off after 1010 of 307200 bytes") as error:
        fetch(item)
    assert "0.0 MB of it are kept" in one_line(error)
    assert folder(item)["model.pth.part"] == CONTENT[:1010]
    assert fetch(item) == SHA256
    assert site.began()[-1] == "bytes=1010-"


def test_a_server_without_ranges_sends_all_of_it_again(site: Site) -> None:
    item = release(site)
    site.ranges, site.answers = False, [cut(100_000)]
    assert fetch(item) == SHA256
    assert folder(item)["model.pth"] == CONTENT


def test_without_a_published_hash_parts_of_two_files_are_not_joined(site: Site) -> None:
    item = release(site, None)
    site.answers = [cut(1000), cut(0), cut(0)]
    with pytest.raises(WeightsError):
        fetch(item)
    site.files[PATH], site.tag = CONTENT[::-1], '"second"'
    assert fetch(item) == hashlib.sha256(CONTENT[::-1]).hexdigest()


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_hash_and_a_tag_it_begins_anew(site: Site, tag: str | None) -> None:
    item = release(site, None)
    site.tag, site.answers = tag, [cut(100_000)]
    assert fetch(item) == SHA256
    assert site.began() == [None, None]


@pytest.mark.parametrize("kept", [CONTENT[:-1] + b"?", CONTENT + b"more", CONTENT[:100] + b"?"])
def test_wrong_parts_are_thrown_away_and_fetched_once_more(site: Site, kept: bytes) -> None:
    item = release(site)
    file = cache.place(item.url)
    file.parent.mkdir(parents=True)
    (file.parent / "model.pth.part").write_bytes(kept)
    assert fetch(item) == SHA256
    assert folder(item)["model.pth"] == CONTENT
    assert site.began()[-1] is None


def test_a_whole_part_needs_no_byte_more(site: Site) -> None:
    item = release(site)
    file = cache.place(item.url)
    file.parent.mkdir(parents=True)
    (file.parent / "model.pth.part").write_bytes(CONTENT)
    assert fetch(item) == SHA256
    assert site.began() == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("digits", [64, 8])
def test_a_wrong_hash_is_refused_and_not_kept(site: Site, digits: int) -> None:
    item = release(site, ("0123456789abcdef" * 4)[:digits])
    with pytest.raises(WeightsError, match="is not the released file") as error:
        fetch(item)
    assert f"begins with {SHA256[:8]}, the published one with 01234567" in one_line(error)
    assert folder(item) == {}


def test_without_a_published_hash_that_of_the_first_use_counts(site: Site) -> None:
    item = release(site, None)
    fetch(item)
    cache.place(item.url).unlink()
    site.files[PATH] = CONTENT[::-1]
    with pytest.raises(WeightsError, match=r"that of its first use, in .*model\.pth\.sha256"):
        fetch(item)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_web_page_is_no_file(site: Site, kind: str, sha256: str | None) -> None:
    item = release(site, sha256)
    site.answers = [page(kind)]
    with pytest.raises(WeightsError, match="answers with a web page, such as a proxy's") as error:
        fetch(item)
    assert item.url in one_line(error)
    assert not cache.place(item.url).exists()
    assert fetch(item) == SHA256


def zipped() -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(1000)}, stream)
    return stream.getvalue()


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"error": "log in"}', "is a text, not the file"),
        (b"", "is empty"),
        (b" " * 300 + b"<!doctype html>", "is a web page, not the file"),
        (zipped()[:1000], "is cut short"),
    ],
)
def test_what_can_be_no_weights_is_not_what_later_files_are_held_to(
    site: Site, content: bytes, message: str, by_hand: bool
) -> None:
    item = release(site, None)
    file = cache.place(item.url)
    if by_hand:
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=f"{message}; remove it"):
            download.get(item, file)
        file.unlink()
    else:
        site.answers = [lambda handler, _: (handler.begin(200, len(content)),
                                            handler.wfile.write(content))]  # fmt: skip
        with pytest.raises(WeightsError, match="a text, not|is empty|is cut short|a web page"):
            fetch(item)
        assert not file.exists()
    assert not cache.note_of(file).exists()
    site.files[PATH] = zipped()
    assert download.get(item, file) == hashlib.sha256(zipped()).hexdigest()


def test_a_mirror_that_is_no_address_is_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETBENCH_MIRROR", "http://[mirror/")
    with pytest.raises(WeightsError, match=r"\$DETBENCH_MIRROR: names no address") as error:
        fetch(release(site))
    one_line(error)


def test_a_cache_of_an_impossible_name_is_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / ("n" * 300)))
    item = release(site)
    with pytest.raises(WeightsError, match=r"name another folder in \$DETBENCH_CACHE") as error:
        download.get(item, cache.place(item.url))
    one_line(error)


def test_a_redirect_is_followed_and_ranges_with_it(site: Site) -> None:
    item = release(site)
    site.files["/moved"] = CONTENT
    site.answers = [redirect("/moved"), cut(1000), redirect("/moved")]
    assert fetch(item) == SHA256
    assert [path for path, _ in site.asked] == [PATH, "/moved"] * 2
    assert site.began()[2:] == ["bytes=1000-"] * 2


def test_a_server_that_drips_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**9, 20))  # seconds, at every look at the clock
    monkeypatch.setattr(transfer, "monotonic", lambda: next(ticks))
    item = release(site)
    site.answers = [drip] * 9
    with pytest.raises(WeightsError, match="brings under 30000 bytes in 30 seconds"):
        fetch(item)
    assert len(site.asked) == 3


@pytest.mark.parametrize("status", [404, 503])
def test_without_the_file_one_line_names_address_and_place(site: Site, status: int) -> None:
    item = release(site)
    if status == 404:
        site.files.clear()
    site.answers = [refuse]
    with pytest.raises(WeightsError, match=f"HTTP {status}") as error:
        fetch(item)
    place = cache.place(item.url)
    assert f"get {item.url} where there is a network and put it at {place}" in one_line(error)


def test_without_a_network_one_line_names_address_and_place(site: Site) -> None:
    item = Release("http://127.0.0.1:9/model.pth")  # where nobody listens
    with pytest.raises(WeightsError, match="refused") as error:
        fetch(item)
    assert f"get {item.url} where" in one_line(error)
    assert f"put it at {cache.place(item.url)}" in str(error.value)


def test_mirrors_come_first_and_hold_files_below_their_hosts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Release("http://127.0.0.1:9/v1/model.pth", SHA256)
    with serving() as mirror:
        mirror.files["/copies/127.0.0.1_9/v1/model.pth"] = CONTENT
        bases = f"{site.url}/lacks {mirror.url}/copies/?token=secret"
        monkeypatch.setenv("DETBENCH_MIRROR", bases)
        assert fetch(item) == SHA256
        assert mirror.asked[0][0] == "/copies/127.0.0.1_9/v1/model.pth?token=secret"
    assert len(site.asked) == 1


def test_a_mirror_may_be_a_folder_and_is_a_copy_of_the_cache(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = release(site)
    fetch(item)
    (tmp_path / "cache" / cache.FOLDER).rename(tmp_path / "copy")
    monkeypatch.setenv("DETBENCH_MIRROR", (tmp_path / "copy").as_uri())
    assert fetch(item) == SHA256
    assert len(site.asked) == 1


def test_a_mirror_with_another_file_is_passed_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = release(site)
    with serving() as mirror:
        mirror.files[f"/127.0.0.1_{site.server_port}{PATH}"] = b"another"
        monkeypatch.setenv("DETBENCH_MIRROR", mirror.url)
        assert fetch(item) == SHA256


def test_passwords_reach_the_mirror_alone_and_no_message(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Release("http://127.0.0.1:9/v1/model.pth", SHA256)
    path = "/127.0.0.1_9/v1/model.pth"
    with serving() as mirror:
        site.files[path] = mirror.files[path] = CONTENT
        given = mirror.url.replace("//", "//me:pass%40word@")
        monkeypatch.setenv("DETBENCH_MIRROR", f"{given}/?key=hidden")
        mirror.answers = [refuse]
        with pytest.raises(WeightsError, match="HTTP 503") as error:
            fetch(item)
        assert not any(word in one_line(error) for word in ("pass%40word", "pass@word", "hidden"))
        mirror.answers = [redirect(f"{site.url}{path}"), cut(1000)]
        fetch(item)
    assert mirror.asked[-1][1]["Authorization"] == "Basic bWU6cGFzc0B3b3Jk"
    assert site.asked
    assert all("Authorization" not in headers for _, headers in site.asked)
    for name, content in folder(item).items():
        assert b"pass" not in content, name


def test_a_disk_without_room_is_refused_before_a_byte_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = release(site)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: SimpleNamespace(free=300_000))
    with pytest.raises(WeightsError, match="no space left for it; free some, or name") as error:
        fetch(item)
    assert "DETBENCH_CACHE" in one_line(error)
    assert folder(item).get("model.pth.part", b"") == b""


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_meanwhile_keeps_what_it_has(site: Site) -> None:
    item = release(site)
    with files_of_at_most(100_000), pytest.raises(WeightsError, match="no space left for it"):
        fetch(item)
    assert 0 < len(folder(item)["model.pth.part"]) <= 100_000
    assert fetch(item) == SHA256


def test_a_cache_that_cannot_be_written_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be written .*; name another folder in \$DET"):
        fetch(release(site))


def test_of_two_processes_one_fetches_and_the_other_waits(site: Site) -> None:
    item = release(site)
    gate, begun = threading.Event(), threading.Event()
    site.answers = [after(gate, begun)]
    program = (
        "import sys; from pathlib import Path; from detectors import Release;"
        "from harness.released import cache, download; item = Release(sys.argv[1], sys.argv[2]);"
        "tell = lambda step: print(step.phase, flush=True);"
        "print(download.fetch(item, cache.place(item.url), tell), flush=True)"
    )
    command = [sys.executable, "-c", program, item.url, SHA256]

    def start() -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)

    with start() as first:
        assert begun.wait(HANG)
        with start() as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "wait\n"
            gate.set()
            ends = [process.communicate(timeout=HANG)[0].split()[-1] for process in (first, second)]
    assert ends == [SHA256, SHA256]
    assert len(site.asked) == 1


def test_a_file_put_there_by_hand_is_checked(site: Site) -> None:
    item = release(site)
    file = cache.place(item.url)
    file.parent.mkdir(parents=True)
    for content, message in ((CONTENT[:-1], "is not the released file"), (b"\n<html>", "web page")):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=f"{file}: .*{message}.*remove it"):
            cache.checked(file, item)
    file.write_bytes(CONTENT)
    assert cache.checked(file, item) == SHA256


def test_a_file_that_changes_after_its_first_use_is_refused(site: Site) -> None:
    item = release(site, None)
    fetch(item)
    file = cache.place(item.url)
    file.write_bytes(CONTENT[::-1])
    with pytest.raises(WeightsError, match="that of its first use"):
        cache.checked(file, item)
