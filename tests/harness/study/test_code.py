"""What of the code counts for which trial: every edit, and what it runs again."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import detectors
from detectors.config import override
from harness.study import code, sources
from harness.study.code import MEASURED, ROOTS, TRAINED, Fingerprints
from harness.study.sources import OURS, Place, Sources
from tests import rooms
from tests.rooms import ROOT

FCOS = {"assigner": {"type": "FCOSCenter"}}
CASES = {"rtmdet": ("rtmdet_s", {}), "fcos": ("rtmdet_s", FCOS), "rtdetr": ("rtdetr_r18", {})}
KINDS = ("training", *MEASURED)


class Copied(NamedTuple):
    """A copy of the packages, and the hashes of its code."""

    folder: Path
    before: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Copied:
    """Copy the packages."""
    folder = tmp_path_factory.mktemp("copied")
    for package in rooms.PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    with pytest.MonkeyPatch.context() as patch:
        look_in(folder, patch)
        return Copied(folder, hashes())


def look_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fingerprints be those of a copy; remember them at once, for later tests."""
    found = Sources._top

    def top(self: Sources, name: str) -> Place | None:
        here = folder / name
        return Place(here / "__init__.py", [str(here)]) if name in OURS else found(self, name)

    monkeypatch.setattr(Sources, "_top", top)
    monkeypatch.setattr(sources, "SETTLED", 0)


def hashes() -> dict[str, dict[str, str]]:
    """Return of each case what trials and trainings contain of their code, by kind."""
    found: dict[str, dict[str, str]] = {}
    for case, (name, changes) in CASES.items():
        config, prints = override(detectors.resolve(name), changes), Fingerprints(name)
        of = {what: prints.of(config, [what]) for what in MEASURED}
        found[case] = {what: str(code.identity(of[what], of[what])) for what in MEASURED}
        found[case]["training"] = str(code.identity(of["accuracy"], TRAINED))
    return found


class Edit(NamedTuple):
    """An edit, and which kinds of which cases it runs again."""

    file: str
    change: Callable[[str], str]
    again: dict[str, str]  # case to kinds


def replaced(before: str, after: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert text.count(before) >= 1, before
        return text.replace(before, after)

    return change


def computing(text: str) -> str:
    """Add a statement at the end that computes something."""
    return f"{text}\nADDED = 1\n"


ALL = "training complexity accuracy latency queries"
EVERY = dict.fromkeys(CASES, ALL)
DENSE = {"rtmdet": ALL, "fcos": ALL}
LEARNED = dict.fromkeys(CASES, "training accuracy queries")
EDITS = {
    "loss": Edit("detectors/losses.py", replaced("beta", "gamma"), EVERY),
    "criterion": Edit("detectors/rtmdet/criterion.py", computing, DENSE),
    "config": Edit("detectors/rtmdet/config.py", replaced(" < 1", " < 2"), DENSE),
    "backbone's config": Edit(
        "detectors/backbones/presnet_config.py", replaced("(64, ", "(72, "), {"rtdetr": ALL}
    ),
    "assigner's config": Edit("detectors/assigners/fcos_config.py", computing, {"fcos": ALL}),
    "layer": Edit("detectors/layers.py", replaced("padding=", "dilation="), EVERY),
    "assigner": Edit("detectors/assigners/fcos.py", computing, {"fcos": ALL}),
    "interface": Edit("detectors/interface.py", computing, EVERY),
    "backbone of another family": Edit(
        "detectors/backbones/presnet.py", computing, {"rtdetr": ALL}
    ),
    "head of another family": Edit("detectors/rtdetr/head.py", computing, {"rtdetr": ALL}),
    "postprocess": Edit(
        "detectors/postprocess.py", computing, dict.fromkeys(CASES, "accuracy latency")
    ),
    "postprocess default": Edit(
        "detectors/postprocess_config.py",
        replaced("inference_only(0.65)", "inference_only(0.6)"),
        {},
    ),
    "suppression": Edit(
        "detectors/suppression.py", computing, dict.fromkeys(CASES, "accuracy latency")
    ),
    "list of detectors": Edit("detectors/configs.py", computing, {}),
    "augmentation": Edit(
        "harness/data/colour.py",
        computing,
        dict.fromkeys(CASES, "training accuracy latency queries"),
    ),
    "training loop": Edit("harness/training/loop.py", computing, LEARNED),
    "average of weights": Edit("harness/training/ema.py", computing, LEARNED),
    "seeds": Edit("harness/trials/learn.py", computing, LEARNED),
    "evaluation": Edit(
        "harness/measure/accuracy/evaluate.py", computing, dict.fromkeys(CASES, "accuracy latency")
    ),
    "selected queries": Edit(
        "harness/measure/accuracy/queries.py", computing, dict.fromkeys(CASES, "queries")
    ),
    "timer": Edit("harness/measure/latency/timer.py", computing, dict.fromkeys(CASES, "latency")),
    "runtime": Edit(
        "harness/measure/runtimes/sessions.py", computing, dict.fromkeys(CASES, "latency")
    ),
    "counter": Edit(
        "harness/measure/complexity/conventions.py", computing, dict.fromkeys(CASES, "complexity")
    ),
    "rendering": Edit("harness/data/scenes.py", computing, {}),  # the data's fingerprint tells
    "check of data": Edit("harness/data/check.py", computing, {}),
    "report": Edit("reports/tables.py", computing, {}),
    "command": Edit("harness/cli/run.py", computing, {}),
    "engine": Edit("harness/engine/driver.py", computing, {}),
    "tracker": Edit("harness/tracking/tracker.py", computing, {}),
    "record": Edit("harness/records/record.py", computing, {}),
    "locks": Edit("harness/machine/locks.py", computing, {}),
    "comment": Edit("detectors/losses.py", lambda text: f"# said\n{text}\n# more", {}),
    "docstring": Edit("detectors/losses.py", replaced('"""Return', '"""Give'), {}),
    "layout": Edit("detectors/layers.py", lambda text: ast.unparse(ast.parse(text)), {}),
    "type checker's imports": Edit(
        "detectors/layers.py",
        replaced("import torch\n", "import torch\nif TYPE_CHECKING:\n    from a import b\n"),
        {},
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_runs_again_what_it_can_change(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    look_in(copied.folder, monkeypatch)
    edit = EDITS[what]
    file = copied.folder / edit.file
    text = file.read_text(encoding="utf-8")
    assert edit.change(text) != text
    file.write_text(edit.change(text), encoding="utf-8")
    try:
        after = hashes()
    finally:
        file.write_text(text, encoding="utf-8")
    changed = {
        case: " ".join(kind for kind in KINDS if copied.before[case][kind] != after[case][kind])
        for case in CASES
    }
    assert changed == {case: edit.again.get(case, "") for case in CASES}


def test_where_the_packages_lie_does_not_matter(copied: Copied) -> None:
    assert hashes() == copied.before


def test_every_part_begins_at_a_module_that_there_is() -> None:
    known = rooms.modules()
    for roots in ROOTS.values():
        for module, name in roots:
            file = known[f"harness.{module}"]
            assert name is None or f"def {name}(" in file.read_text(encoding="utf-8")
    for package, inner in code.NO_MATTER.items():
        assert {f"{package}.{module}" for module in inner} <= known.keys()
    assert {f"detectors.{name}" for name in code.POSTPROCESS} <= known.keys()


def test_only_configs_import_the_postprocessing() -> None:
    """Else a training might depend on it, and would not be made anew when it changes.

    Foreign models are not trained.
    """
    apart = {f"detectors.{each}" for each in code.POSTPROCESS}
    found = (item.importer for item in rooms.imports() if item.imported in apart)
    users = {importer for importer in found if rooms.room(importer) != "adapters"}
    assert {user.rpartition(".")[2] for user in users} == {"config", "postprocess"}


@pytest.mark.parametrize("name", detectors.names())
def test_the_postprocessing_of_a_detector_is_apart(name: str) -> None:
    parts = Fingerprints(name).of(detectors.resolve(name), ["accuracy"])
    assert "detectors/postprocess.py" in parts["postprocess"]
    assert "detectors/postprocess.py" not in parts["detector"]


def test_only_parts_that_are_measured_count() -> None:
    prints, config = Fingerprints("rtmdet_s"), detectors.resolve("rtmdet_s")
    assert set(prints.of(config, ["complexity"])) == {"detector", "complexity"}
    assert set(prints.of(config, ["latency"])) == {"detector", "postprocess", "latency"}
    accuracy = {"detector", "postprocess", "training", "evaluation"}
    assert set(prints.of(config, ["accuracy"])) == accuracy


def test_files_that_differ_are_named() -> None:
    one = {"detector": {"a.py": "1", "b.py": "2"}, "training": {"a.py": "1"}}
    other = {"detector": {"a.py": "1", "b.py": "3", "c.py": "4"}, "training": {"a.py": "1"}}
    assert code.differing(one, other) == ["b.py", "c.py"]
    assert code.differing(one, one) == []
