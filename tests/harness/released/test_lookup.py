"""What a user calls weights leads to the right file, or to one line that says why not."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

import detectors
from detectors import RELEASES, Release
from detectors.config import override
from detectors.interface import WeightsError
from detectors.weights import WEIGHTS_FILE, save
from harness.records.progress import Progress
from harness.released import cache, catalogue, find, lookup
from tests.harness.released.serving import Site
from tests.toy import TOY

CONTENT = b"\0weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CASES = [(source, name) for source, table in RELEASES.items() for name in table]


def config(name: str, **knobs: Any) -> Any:
    return override(detectors.CONFIGS[name], knobs)


def test_every_release_is_of_one_of_our_detectors_and_lies_in_a_place_of_its_own() -> None:
    assert {name for _, name in CASES} <= set(detectors.names())
    files = {RELEASES[source][name].url for source, name in CASES}
    assert len(files) == len(CASES) - 1  # R50 and R50-m share a backbone
    assert len({cache.place(url) for url in files}) == len(files)
    for source, name in CASES:
        release = RELEASES[source][name]
        assert release.url.startswith("https://")
        assert re.fullmatch("([0-9a-f]{64}|[0-9a-f]{8})?", release.sha256 or "")


def test_of_two_files_the_one_with_a_published_hash_is_taken() -> None:
    hashed = {name for name in RELEASES["coco"] if len(RELEASES["coco"][name].sha256 or "") == 64}
    assert hashed == {"rtdetr_r18", "rtdetr_r34", "rtdetr_r50", "rtdetr_r101"}
    official = RELEASES["coco"]["rtdetr_r50_m"]
    assert official.url.endswith("v0.1/rtdetr_r50vd_m_6x_coco_from_paddle.pth")


def test_every_detector_but_rtmdet_nano_has_a_backbone() -> None:
    assert set(detectors.names()) - RELEASES["imagenet"].keys() <= {"rtmdet_nano"}


@pytest.mark.parametrize(("source", "name"), CASES)
def test_a_name_leads_to_the_release_of_the_detector(source: str, name: str) -> None:
    found = find(config(name, num_classes=3), source, fetch=False)
    release = RELEASES[source][name]
    parts = ("backbone",) if source == "imagenet" else None
    assert (found.path, found.url, found.parts, found.name) == (None, release.url, parts, source)
    known = release.sha256 or ""
    promised = {64: known, 8: f"sha256:{known}", 0: f"url:{release.url}"}
    assert found.digest == promised[len(known)]


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("rtmdet_tiny", {"assigner.type": "SimOTA", "input.size": (320, 320)}),
        ("rtdetr_r50", {"head.num_queries": 100, "head.layers_used": 2}),
        ("rtdetr_r50", {"backbone.freeze_norm": False, "backbone.frozen_stages": 2}),
        ("rtdetr_r18", {"backbone.freeze_norm": True}),
    ],
)
def test_knobs_that_change_no_weights_do_not_matter(name: str, knobs: dict[str, Any]) -> None:
    found = find(config(name, **knobs), "coco", fetch=False)
    assert found.url == RELEASES["coco"][name].url


def test_a_part_has_to_fit_by_itself_alone() -> None:
    changed = config("rtdetr_r18", **{"head.num_layers": 2})
    with pytest.raises(WeightsError, match=r"of rtdetr_r18 would fit with head.num_layers=3$"):
        find(changed, "coco", fetch=False)
    for parts in (("backbone",), ("backbone", "neck")):
        found = find(changed, "coco", fetch=False, parts=parts)
        assert found.url == RELEASES["coco"]["rtdetr_r18"].url
    with pytest.raises(WeightsError, match="weights imagenet: have backbone alone, not neck"):
        find(changed, "imagenet", fetch=False, parts=("backbone", "neck"))


@pytest.mark.parametrize(
    ("detector", "source", "message"),
    [
        ("rtdetr_hgnetv2_l", "coco", "none are released for rtdetr_hgnetv2_l; there is "),
        ("rtmdet_s", "objects365", "none are released for rtmdet_s; there is coco"),
        ("rtmdet_nano", "coco", "none are released for rtmdet_nano; there is person"),
        (TOY, "coco", "none are released for this ToyConfig; there are some for rtmdet_tiny"),
        (TOY, "imagenet", "none are released for this ToyConfig"),
        (TOY, "coc", r"weights coc: no such file or folder; did you mean coco\?"),
        (TOY, "mine.pth", "weights mine.pth: no such file or folder, and no coco, objects365, pe"),
    ],
)
def test_what_does_not_exist_is_one_line(detector: Any, source: str, message: str) -> None:
    item = detectors.CONFIGS[detector] if isinstance(detector, str) else detector
    with pytest.raises(WeightsError, match=message) as error:
        find(item, source, fetch=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["coco", "imagenet"])
def test_another_width_names_the_knob_that_would_fit(source: str) -> None:
    narrow = config("rtmdet_tiny", **{"backbone.width_mult": 0.25})
    with pytest.raises(WeightsError, match="of rtmdet_tiny would fit with backbone.width_mult=0.3"):
        find(narrow, source, fetch=False)


def test_a_file_and_a_folder_of_ours_are_themselves(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(CONTENT)
    assert find(TOY, str(file), fetch=True) == (file, None, SHA256, None, str(file))
    folder = save(TOY.build(), tmp_path / "toy", "tests.toy:TOY")
    found = find(TOY, str(folder), fetch=False)
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    assert (found.path, found.digest) == (folder, digest)
    with pytest.raises(WeightsError, match="a folder of weights is one that train left"):
        find(TOY, str(tmp_path), fetch=False)


def test_a_release_is_fetched_if_wanted_and_then_at_hand(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/tiny.pth"] = CONTENT
    release = Release(f"{site.url}/tiny.pth")
    monkeypatch.setattr(lookup, "RELEASES", {"coco": {"rtmdet_tiny": release}})
    tiny = detectors.CONFIGS["rtmdet_tiny"]
    assert find(tiny, "coco", fetch=False).path is None
    steps: list[Progress] = []
    found = find(tiny, "coco", fetch=True, on_progress=steps.append)
    assert found == (cache.place(release.url), release.url, SHA256, None, "coco")
    assert steps
    assert find(tiny, "coco", fetch=False) == found
    assert len(site.asked) == 1
    found.path.write_bytes(b"\0damaged")
    with pytest.raises(WeightsError, match="is not the released file: .* that of its first use"):
        find(tiny, "coco", fetch=False)


def test_the_catalogue_has_every_release_by_name() -> None:
    names = [item.name for item in catalogue.entries()]
    assert sorted(names) == sorted(f"{name}/{source}" for source, name in CASES)
    assert catalogue.entry("rtmdet_s") == catalogue.entry("rtmdet_s/coco")
    with pytest.raises(WeightsError, match=r"'rtmdet_s/objects365'; there is rtmdet_s/coco, rtm"):
        catalogue.entry("rtmdet_s/objects365")
    with pytest.raises(WeightsError, match="'rtmdet_ss/coco'; there is rtmdet_s/coco; `detbench"):
        catalogue.entry("rtmdet_ss")
