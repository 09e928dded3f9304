from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import study
from harness.config import library, yaml_source
from harness.study import StudyError, expand, load
from harness.study.specification import describe
from tests.harness.studies import TOY, write


def refused(folder: Path, *, sets: list[str] | None = None, **changes: Any) -> str:
    with pytest.raises(StudyError) as info:
        expand(load(write(folder, **changes), sets=sets or []))
    message = str(info.value)
    assert "\n" not in message
    return message


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "toy.yaml").read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_grid_expands_seed_by_seed_with_the_last_axis_fastest(tmp_path: Path) -> None:
    sweep = {"detector.width": [4, 8], "recipe.lr": [0.1, 0.2]}
    specs = expand(load(write(tmp_path, sweep=sweep, seeds=[0, 1])))
    assert [spec.name for spec in specs[:4]] == [
        "width=4, recipe.lr=0.1",
        "width=4, recipe.lr=0.2",
        "width=8, recipe.lr=0.1",
        "width=8, recipe.lr=0.2",
    ]
    assert [spec.seed for spec in specs] == [0] * 4 + [1] * 4
    assert len({spec.trial for spec in specs}) == 8
    assert specs[3].knobs["width"] == 8
    assert specs[3].recipe is not None
    assert specs[3].recipe.lr == 0.2


def test_zip_pairs_the_axes(tmp_path: Path) -> None:
    sweep = {"detector.width": [4, 8], "recipe.lr": [0.1, 0.2]}
    specs = expand(load(write(tmp_path, sweep=sweep, design="zip")))
    assert [spec.name for spec in specs] == ["width=4, recipe.lr=0.1", "width=8, recipe.lr=0.2"]


def test_one_factor_starts_at_the_baseline_and_leaves_its_own_values_out(tmp_path: Path) -> None:
    sweep = {"detector.width": [4, 8, 16], "detector.assigner.topk": [2, 4]}
    specs = expand(load(write(tmp_path, sweep=sweep, design="one_factor")))
    assert [spec.name for spec in specs] == ["baseline", "width=4", "width=16", "assigner.topk=2"]


def test_classes_follow_the_data_unless_set(tmp_path: Path) -> None:
    fixed = {**TOY["set"], "data.shapes.classes": 3}
    assert expand(load(write(tmp_path, set=fixed)))[0].knobs["num_classes"] == 3
    fixed |= {"detector.num_classes": 5}
    assert expand(load(write(tmp_path, set=fixed)))[0].knobs["num_classes"] == 5
    fixed |= {"detector.num_classes": 2}
    assert "has 3 classes" in refused(tmp_path, set=fixed)


def test_a_part_can_be_swept_as_a_whole(tmp_path: Path) -> None:
    sweep = {"detector.assigner": [{"type": "Nearest", "topk": 2}, {"type": "Inside"}]}
    specs = expand(load(write(tmp_path, sweep=sweep)))
    assert [spec.name for spec in specs] == ["assigner=Nearest(topk=2)", "assigner=Inside"]
    assert specs[1].setup.detector.assigner.shrink == 0.5


def test_a_spec_survives_json(tmp_path: Path) -> None:
    spec = expand(load(write(tmp_path)))[0]
    again = type(spec).model_validate_json(spec.model_dump_json())
    assert again.setup == spec.setup
    assert again.config == spec.config


def test_the_hash_depends_on_the_result_alone(tmp_path: Path) -> None:
    def trial(**changes: Any) -> str:
        return expand(load(write(tmp_path, **changes)))[0].trial

    base = trial()
    assert trial(name="other", question="") == base
    assert trial(set={**TOY["set"], "recipe.workers": 1}) == base
    assert trial(seeds=[1]) != base
    assert trial(set={**TOY["set"], "recipe.lr": 0.5}) != base
    assert trial(set={**TOY["set"], "data.shapes.seed": 9}) != base
    assert trial(set={**TOY["set"], "detector.postprocess.iou_threshold": 0.5}) != base
    assert trial(set={**TOY["set"], "latency.batch_size": 2}) != base


def test_the_recipe_does_not_name_a_trial_that_trains_nothing(tmp_path: Path) -> None:
    measure = ["complexity"]
    first = expand(load(write(tmp_path, measure=measure)))[0]
    second = expand(load(write(tmp_path, measure=measure, set={**TOY["set"], "recipe.lr": 0.5})))[0]
    assert first.trial == second.trial


def test_options_join_the_study(tmp_path: Path) -> None:
    sets = ["recipe.epochs=1", "sweep.detector.width=[16]", "seeds=[3]", "measure=[complexity]"]
    specs = expand(load(write(tmp_path), sets=sets))
    assert [(spec.name, spec.seed, spec.measure) for spec in specs] == [
        ("width=16", 3, ("complexity",))
    ]
    assert specs[0].recipe is not None
    assert specs[0].recipe.epochs == 1


def test_the_papers_protocol_is_one_key_that_knobs_go_before(tmp_path: Path) -> None:
    how = {"set": {**TOY["set"], "latency.precision": "fp32"}, "latency": "papers"}
    timing = expand(load(write(tmp_path, **how)))[0].latency
    assert (timing.runtime, timing.precision, timing.batch_size) == ("tensorrt", "fp32", 1)
    named = expand(load(write(tmp_path), sets=["latency=papers"]))[0].latency
    assert (named.runtime, named.precision) == ("tensorrt", "fp16")
    assert "papers" in refused(tmp_path, latency="paper")


def test_an_exponent_is_a_number(tmp_path: Path) -> None:
    file = write(tmp_path)
    text = file.read_text("utf-8").replace(
        "recipe.epochs: 2", "recipe.epochs: 2\n  recipe.lr: 1e-3"
    )
    file.write_text(text, "utf-8")
    recipe = load(file).setup().recipe
    assert recipe is not None
    assert recipe.lr == 1e-3


@pytest.mark.parametrize(
    ("changes", "at", "parts"),
    [
        ({"sweeep": {}}, "sweeep", ["unknown key 'sweeep'", "did you mean sweep?"]),
        ({"detector": "rtmdet_z"}, "detector:", ["'rtmdet_z'", "did you mean rtmdet_"]),
        ({"recipe": "smok"}, "recipe:", ["no recipe 'smok'", "did you mean smoke?"]),
        ({"sweep": {"detector.widht": [1]}}, "widht", ["has no knob 'widht'", "did you mean"]),
        ({"sweep": {"detector.width": ["xx"]}}, "- xx", ["detector.width: expected int, got 'xx'"]),
        ({"sweep": {"detector.width": 4}}, "width: 4", ["expected a list of values, got 4"]),
        ({"sweep": {"recipe.epoch": [1]}}, "recipe.epoch:", ["did you mean recipe.epochs?"]),
        ({"sweep": {"recipe.lr": ["xx"]}}, "- xx", ["recipe.lr", "valid number, got 'xx'"]),
        ({"sweep": {"width": [4]}}, "  width", ["did you mean detector.width?"]),
        ({"sweep": {"data.source": ["a"]}}, "data.source", ["named by `data:`"]),
        ({"seeds": ["xx"]}, "- xx", ["valid integer"]),
        ({"measure": ["speed"]}, "- speed", ["'accuracy'"]),
        ({"source": "rtmdet/table5z"}, "source", ["no published table", "did you mean rtmdet/"]),
        ({"search": {"trials": 3}}, "search", ["search.space is missing"]),
        ({"recipe": None}, "measure", ["accuracy needs a recipe"]),
        ({"name": "a/b"}, "name", ["pattern"]),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_remedy(
    tmp_path: Path, changes: dict[str, Any], at: str, parts: list[str]
) -> None:
    message = refused(tmp_path, **changes)
    line = line_of(tmp_path, at)
    assert message.startswith(f"{tmp_path / 'toy.yaml'}:{line}: ")
    assert all(part in message for part in parts), message


def test_a_study_without_a_sweep_is_refused(tmp_path: Path) -> None:
    assert "nothing is swept" in refused(tmp_path, sweep=None)
    assert "nothing is swept" in refused(tmp_path, sweep={})


def test_two_trials_that_are_the_same_are_both_named(tmp_path: Path) -> None:
    sweep = {"detector.assigner": [{"type": "Nearest"}, {"type": "Nearest", "topk": 4}]}
    message = refused(tmp_path, sweep=sweep)
    assert "two trials are the same" in message
    assert "assigner=Nearest (seed 0)" in message
    assert "assigner=Nearest(topk=4) (seed 0)" in message


def test_an_input_size_between_strides_names_its_neighbours(tmp_path: Path) -> None:
    message = refused(tmp_path, sweep={"detector.input.size": [[64, 64], [64, 70]]})
    assert "70 is no multiple of 8" in message
    assert "use 64 or 72" in message


def test_zip_needs_axes_of_one_length(tmp_path: Path) -> None:
    sweep = {"detector.width": [4, 8], "recipe.lr": [0.1]}
    assert "one length" in refused(tmp_path, sweep=sweep, design="zip")


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("detector.widht=3", "--set detector.widht=3: detector.widht"),
        ("detector.width=3", "sweep.detector.width=[...]"),
        ("sweep.detector.wdth=[3]", "did you mean detector.width?"),
        ("seeds", "expected PATH=VALUE"),
        ("seed=[1]", "unknown key 'seed'; did you mean seeds?"),
        ("recipe.lr=[", "not YAML"),
    ],
)
def test_a_mistaken_option_is_named(tmp_path: Path, option: str, part: str) -> None:
    assert part in refused(tmp_path, sets=[option])


def test_a_knob_cannot_be_set_and_swept(tmp_path: Path) -> None:
    message = refused(tmp_path, set={**TOY["set"], "detector.width": 4})
    assert "both set and swept" in message


def test_broken_yaml_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text("name: toy\nsweep: [\n", "utf-8")
    with pytest.raises(StudyError, match=r"toy\.yaml:3: not YAML"):
        load(file)
    file.write_text("name: toy\nname: again\n", "utf-8")
    with pytest.raises(StudyError, match=r"toy\.yaml:2: 'name' stands here a second time"):
        load(file)
    file.write_text("- a\n", "utf-8")
    with pytest.raises(StudyError, match="expected a study"):
        load(file)


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"did you mean quickstart\?"):
        load("quickstat")


@pytest.mark.parametrize("name", library.names())
def test_every_study_of_the_package_is_valid(name: str) -> None:
    found = load(name)
    assert found.setup().flat()
    assert found.question
    assert study.load(name, data="elsewhere").setup().data.source == "elsewhere"


def test_names_are_short() -> None:
    overrides = {"detector.a.b": 0.25, "recipe.lr": 0.1, "detector.c": [1, True], "data.d": None}
    assert describe(overrides) == "a.b=0.25, recipe.lr=0.1, c=[1, true], data.d=null"


def test_places_fall_back_to_the_nearest_parent(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump({"a": {"b": [1, 2]}}, default_flow_style=False), "utf-8")
    source = yaml_source.read(file)
    assert source.place("a", "b", "1") == f"{file}:4"
    assert source.place("a", "c") == f"{file}:1"
    assert source.place("z") == str(file)


def test_a_changed_copy_of_a_detector_is_another_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(__file__).parents[2] / "toy.py"
    (tmp_path / "copied_toy.py").write_text(source.read_text("utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (ours, _), (copied, _) = (
        study.expand(study.load(write(tmp_path, detector=f"{module}:TOY")))
        for module in ("tests.toy", "copied_toy")
    )
    assert ours.knobs == copied.knobs
    assert ours.trial != copied.trial


def test_a_knob_added_later_is_in_the_protocol_only_where_it_is_turned(tmp_path: Path) -> None:
    """Hashes of finished trials stay: `tests/harness/test_before_rooms.py` compares them all."""
    sweep = {"detector.input.interpolation": ["linear", "area"]}
    plain, turned = expand(load(write(tmp_path, sweep=sweep)))
    (baseline, _) = expand(load(write(tmp_path)))
    assert plain.protocol_hash == baseline.protocol_hash
    assert "input.interpolation" not in plain.protocol
    assert turned.protocol == {**plain.protocol, "input.interpolation": "area"}
    assert len({plain.training, turned.training}) == len({plain.trial, turned.trial}) == 2


def test_inputs_as_large_as_their_photographs_are_for_trials_that_do_not_train(
    tmp_path: Path,
) -> None:
    sets = {**TOY["set"], "detector.input.resize": "shortest_edge"}
    error = refused(tmp_path, set=sets)
    assert "toy.yaml" in error
    assert "a training wants one; train with letterbox or stretch" in error
    untrained = ["complexity", "latency"]
    first = expand(load(write(tmp_path, set=sets, measure=untrained)))[0]
    assert first.protocol["input.resize"] == "shortest_edge"
    odd = {**sets, "detector.input.pad_to": 12}
    assert "pad_to: 12 is no multiple of 8" in refused(tmp_path, set=odd, measure=untrained)
