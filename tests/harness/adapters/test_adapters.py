"""Foreign models under the contract of ours, by the smallest kind there is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import detectors
from detectors import weights
from detectors.config import (
    KnobError,
    added_later,
    flatten,
    of_result,
    out_of_result,
    override,
    with_presets,
)
from detectors.interface import InputConfig
from harness import adapters, cli, data
from harness import study as studies
from harness.adapters import folders, names
from harness.adapters.model import NotTrainableError, Ready, ReadyOutputs
from harness.adapters.ready_config import ReadyConfig
from harness.config.latency import LatencyConfig
from harness.measure import latency
from harness.measure.latency import Subject
from harness.study import StudyError
from harness.study.code import Fingerprints
from harness.trials import trial
from tests.toy import TOY


@pytest.fixture(autouse=True)
def _toy_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(names.KINDS, "toy", "tests.harness.adapters.toy:read")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.toy"
    path.write_text("1", encoding="utf-8")
    return path


def study_of(file: Path, text: str = "") -> str:
    path = file.with_name("study.yaml")
    path.write_text(
        f"name: s\ndata: shapes\nmeasure: [accuracy]\nsweep: {{detector: ['toy:{file}']}}\n{text}",
        encoding="utf-8",
    )
    return str(path)


def test_a_kind_wins_over_a_module_of_the_same_name(file: Path) -> None:
    assert adapters.resolve(f"toy:{file}").kind == "toy"
    assert adapters.resolve("rtmdet_s") is detectors.resolve("rtmdet_s")
    assert adapters.resolve("tests.toy:TOY") is TOY
    assert not adapters.is_foreign("tests.toy:TOY")
    with pytest.raises(KnobError, match=r"toy:gone: no such file"):
        adapters.resolve("toy:gone")
    with pytest.raises(KnobError, match=r"names no model; expected toy:NAME"):
        adapters.resolve("toy:")


def test_a_result_follows_the_file_and_not_its_place(file: Path, tmp_path: Path) -> None:
    config, moved = adapters.resolve(f"toy:{file}"), tmp_path / "moved.toy"
    moved.write_bytes(file.read_bytes())
    other = adapters.resolve(f"toy:{moved}")
    assert of_result(config) == of_result(other)
    assert flatten(config) != flatten(other)
    moved.write_text("2", encoding="utf-8")
    assert of_result(config) != of_result(adapters.resolve(f"toy:{moved}"))


def test_trials_of_one_file_are_one_wherever_it_lies(file: Path, tmp_path: Path) -> None:
    first = studies.expand(studies.load(study_of(file)))[0]
    (tmp_path / "b").mkdir()
    moved = tmp_path / "b" / "renamed.toy"
    moved.write_bytes(file.read_bytes())
    second = studies.expand(studies.load(study_of(moved)))[0]
    assert first.trial == second.trial
    assert first.start is not None
    assert first.start.shared == ("triangle", "star")
    assert first.start.notes[0] == "toy: it finds what is bright"


@dataclass(frozen=True)
class Before:
    """A config as results were made with it."""

    size: int = 3
    """Of it."""


@dataclass(frozen=True)
class After(Before):
    """The same, with a knob more in each of the two ways."""

    deep: bool = added_later(default=False)
    """Later."""
    place: str = out_of_result("here")
    """Where it lies."""


def test_a_new_knob_at_its_default_leaves_hashes_of_trials_trainings_and_protocols(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The input's, which protocols contain; `InputConfig` is replaced by one with a knob more."""
    assert of_result(After()) == of_result(Before())
    assert of_result(After(deep=True)) != of_result(Before())
    study = studies.of_detectors(
        "s", ["tests.toy:TOY"], ["accuracy"], recipe_name="smoke", data_name="shapes"
    )

    @dataclass(frozen=True)
    class Longer(InputConfig):
        """With a knob more."""

        blur: int = added_later(default=0)
        """Later."""

    import tests.toy as module  # whose detector is changed

    Longer.__name__ = InputConfig.__name__  # as if it had grown
    monkeypatch.setattr(Fingerprints, "of", lambda *_: {})  # code is another matter
    before = studies.expand(study)[0]
    monkeypatch.setattr(module, "TOY", replace(TOY, input=Longer(size=(64, 64))))
    after = studies.expand(studies.of_detectors(
        "s", ["tests.toy:TOY"], ["accuracy"], recipe_name="smoke", data_name="shapes"
    ))[0]  # fmt: skip
    assert before.knobs != after.knobs
    assert (before.trial, before.training) == (after.trial, after.training)
    assert before.protocol_hash == after.protocol_hash


def test_a_preset_turns_several_knobs_and_those_turned_by_themselves_win(file: Path) -> None:
    config = adapters.resolve(f"toy:{file}")
    small = override(config, {"input": "small", "input.channels": "bgr"})
    assert (small.input.size, small.input.channels) == ((32, 32), "bgr")
    assert override(config, {"input": "small", "input.size": [16, 16]}).input.size == (16, 16)
    assert override(config, flatten(small)) == small
    with pytest.raises(KnobError, match=r"no preset 'smaller'; did you mean small\? There is"):
        override(config, {"input": "smaller"})
    with pytest.raises(KnobError, match="expected the knobs of InputConfig"):
        override(TOY, {"input": "small"})


def test_a_name_may_turn_knobs_of_its_model_alone(file: Path) -> None:
    """So that models which want different inputs stand side by side."""
    named = adapters.resolve(f"toy:{file}@input=small@classes=[a, b]")
    plain = adapters.resolve(f"toy:{file}")
    assert named == override(plain, {"input": "small", "classes": ["a", "b"]})
    odd = file.rename(file.with_name("a@b.toy"))
    assert adapters.resolve(f"toy:{odd}").input == plain.input
    with pytest.raises(KnobError, match="has no knob 'size'"):
        adapters.resolve(f"toy:{odd}@size=3")


def test_a_preset_may_stand_for_a_value(file: Path) -> None:
    @dataclass(frozen=True)
    class Layout:
        """Of outputs."""

        outputs: str = with_presets("dense", {"ready": {"limit": 7}})
        """Layout."""
        limit: int = 1
        """Of detections."""

    assert override(Layout(), {"outputs": "ready"}) == Layout("ready", 7)
    assert override(Layout(), {"outputs": "ready", "limit": 2}) == Layout("ready", 2)
    assert override(Layout(), {"outputs": "else"}) == Layout("else", 1)


def test_ready_detections_are_kept_best_first_and_clipped() -> None:
    boxes = torch.tensor([[[0.0, 0, 5, 5], [2, 2, 90, 90], [4, 4, 4, 9], [1, 1, 2, 2]]])
    outputs = ReadyOutputs(
        boxes, torch.tensor([[0.2, 0.9, 0.8, 0.7]]), torch.tensor([[1, 0, 1, -1]])
    )
    sizes = torch.tensor([[40, 60]])
    found = Ready(ReadyConfig())(outputs, sizes)[0]
    assert found.boxes.tolist() == [[2, 2, 60, 40], [0, 0, 5, 5]]
    assert found.labels.tolist() == [0, 1]
    few = Ready(ReadyConfig(score_threshold=0.5, max_detections=1))(outputs, sizes)[0]
    assert few.scores.tolist() == pytest.approx([0.9])


def test_a_foreign_model_is_not_trained(file: Path) -> None:
    model = adapters.resolve(f"toy:{file}").build()
    with pytest.raises(NotTrainableError, match="a foreign model has no losses here"):
        model.losses(torch.zeros(1, 3, 64, 64), [])
    with pytest.raises(StudyError, match=r"recipe smoke: toy:.* is not trained, .* leave recipe"):
        studies.load(study_of(file, "recipe: smoke"))
    with pytest.raises(StudyError, match=r"weights x: toy:.* brings its own"):
        studies.load(study_of(file, "weights: x"))


def test_it_is_measured_with_what_cannot_be_told_apart_absent(file: Path) -> None:
    split = data.load_split(data.DataConfig(source="shapes"), "val").split
    model = adapters.resolve(f"toy:{file}").build()
    settings = LatencyConfig(seconds=0.2, warmup_seconds=0.1, images=2, min_samples=4, block=2)
    timed = latency.measure({"a": Subject(model, True)}, split, settings, device="cpu")["a"]
    assert {"latency_ms", "network_ms"} <= timed.metrics.keys()
    assert timed.absent["nms_ms"] == "inside the network"
    for stage in ("backbone", "neck", "head"):
        assert timed.absent[f"{stage}_ms"] == "the network is in one piece"
        assert f"{stage}_ms" not in timed.metrics


def test_a_trial_of_it_is_evaluated_over_the_classes_that_it_knows(
    file: Path, tmp_path: Path
) -> None:
    spec = studies.expand(studies.load(study_of(file)))[0]
    record = trial.run(spec, tmp_path / "out")
    assert record.failure is None, record.failure
    assert "over 2 of the data set's 4 classes" in record.caveats["mAP"]


def test_a_folder_of_it_is_read_again(file: Path, tmp_path: Path) -> None:
    model = adapters.resolve(f"toy:{file}").build()
    weights.save(model, tmp_path / "saved", f"toy:{file}", ["triangle", "star"])
    assert folders.load(tmp_path / "saved").config == model.config
    assert adapters.saved_config(tmp_path / "saved") == model.config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "MODEL", "--data", "shapes"], "does not know 2 of the 4 classes"),
        (["evaluate", "MODEL", "--data", "shapes", "--weights", "x"], "x: no such file"),
        (["export", "MODEL"], "export writes detectors of ours"),
        (["measure", "MODEL", "--nms-frontier", "--data", "shapes", "--shared-classes"], "inside"),
    ],
)
def test_commands_refuse_what_makes_no_sense(
    arguments: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named: list[Any] = [f"toy:{file}" if item == "MODEL" else item for item in arguments]
    assert cli.main(named) == 2
    error = capsys.readouterr().err
    *notes, refused = error.strip().splitlines()
    assert message in refused
    assert notes in ([], ["note: toy: it finds what is bright"])
