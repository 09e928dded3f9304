"""The studies that come with the package: that they run, and that they are what they cite."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import optuna
import pytest

import detectors
from detectors.assigners import AnyAssigner, DynamicSoftLabel, SimOTA
from harness.analysis.reproduce import tables
from harness.config import library, recipe
from harness.data import DataSet, load, stand_in
from harness.released import resolve_auto
from harness.study import Specs, Study, expand
from harness.study import load as load_study
from harness.study.search import plan as search
from harness.training.train import train
from harness.trials import plan
from harness.trials.plan import Planned
from tests import lanes
from tests.harness.studies import TOY, write

packaged = cache(load_study)
SMALL = 292  # images of a small data set, such as BCCD's
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 8: "eight"}
MINUTES = 5e13  # MACs; 2e13 of four shrunken RTMDets took seven minutes on two cores
SEARCHES = [name for name in library.names() if packaged(name).search]
NAMES = [name for name in library.names() if name not in SEARCHES]
TRAINS = [name for name in NAMES if packaged(name).recipe or "recipe" in packaged(name).axes]
ON_COCO = [name for name in TRAINS if packaged(name).data == "coco2017"]
REPEATED = [
    name
    for name in NAMES
    if name.startswith(("rehearsals/", "peers/")) or name.endswith("_quickstart")
]
"""Studies of the axes of others, on smaller detectors, and of detectors of other libraries."""
RTMDET = [name for name in ON_COCO if name.startswith("rtmdet/")]
RTDETR = [name for name in ON_COCO if name.startswith("rtdetr/")]


def dataset(classes: int, images: int) -> DataSet:
    return stand_in.make("fake", classes, images, 10)


def planned(study: Study, data: DataSet) -> list[Planned]:
    return plan.plan(expand(study, lambda _: data), Path("no-records"))


@cache
def on_coco(name: str) -> dict[str, Planned]:
    """Build the trials of a study for COCO, without memory; by name."""
    items = planned(packaged(name), dataset(80, stand_in.COCO_TRAIN_IMAGES))
    return {item.spec.name: item for item in items}


def table(study: str) -> list[dict[str, str | None]]:
    """Return the cells of the published table that a study cites, row by row."""
    return [row.cells for row in tables.load(str(packaged(study).source)).rows]


def comment(name: str) -> str:
    """Return a study's opening comment, a command on one line."""
    lines = library.find(name).read_text(encoding="utf-8").splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    text = "\n".join(line.removeprefix("#").strip() for line in lines[:end])
    return text.replace("\\\n", "")


def shrunk(name: str) -> tuple[list[str], list[str]]:
    """Return the command in a study's comment: what comes before its `--set`s, and those."""
    (command,) = (line for line in comment(name).splitlines() if line.startswith("detbench run"))
    words = shlex.split(command)
    start = words.index("--set")
    assert set(words[start::2]) == {"--set"}
    return words[:start], words[start + 1 :: 2]


@pytest.mark.parametrize("name", lanes.split(NAMES, set(NAMES) - set(REPEATED)))
def test_every_trial_of_every_study_builds_for_coco(name: str) -> None:
    study = packaged(name)
    if any(detector.startswith("transformers:") for detector in study.detectors):
        pytest.importorskip("transformers")
    trials = on_coco(name)
    assert len(trials) >= 2
    assert len({item.spec.trial for item in trials.values()}) == len(trials)
    for item in trials.values():
        assert item.params > 0
        assert item.macs > 0
        asked = item.spec.overrides.get("detector.num_classes", 80)
        assert item.spec.knobs["num_classes"] == asked
    assert study.source is None or table(name)
    given = [name for name in study.all_named("recipe") if name is not None]
    assert set(given) <= set(recipe.names())
    assert given or study.weights is not None or "accuracy" not in study.measure


@pytest.mark.parametrize("name", SEARCHES)
def test_what_a_search_draws_can_be_built_and_its_constraints_rule_some_out(name: str) -> None:
    study = packaged(name)
    sampler = optuna.samplers.RandomSampler(seed=0)
    drawn = optuna.create_study(directions=list(study.search.objectives.values()), sampler=sampler)
    runs = [search.ask(study, drawn.ask()) for _ in range(6)]
    specs = [Specs(study, lambda config: dataset(80, SMALL))(*run) for run in runs]
    found = plan.plan(specs, Path("nowhere"), study.limits)
    assert len({item.spec.trial for item in found}) == 6
    assert 0 < sum(item.ruled_out is not None for item in found) < 6


def test_the_cell_of_the_middle_kernel_contradicts_its_neighbours() -> None:
    small, middle, large = (item.macs for item in on_coco("rtmdet/kernel_size").values())
    share = (5**2 - 3**2) / (7**2 - 3**2)
    assert middle - small == pytest.approx(share * (large - small), rel=1e-12)
    cells = [float(str(row["flops"])) for row in table("rtmdet/kernel_size")]
    between = cells[0] + share * (cells[2] - cells[0])
    assert between == pytest.approx(middle / 1e9, abs=0.01)
    assert cells[1] < between - 0.1


def test_the_assigner_takes_the_published_steps() -> None:
    trials = list(on_coco("rtmdet/assigner_cost").values())
    assigners = [item.spec.setup.detector.assigner for item in trials]
    steps = [
        {
            "soft_cls_cost": str(assigner.class_cost == "soft").lower(),
            "soft_center_prior": str(assigner.center_prior == "soft").lower(),
            "log_iou_cost": str(assigner.iou_cost == "log").lower(),
        }
        for assigner in assigners
    ]
    rows = table("rtmdet/assigner_cost")
    assert steps == [{key: row[key] for key in steps[0]} for row in rows]
    assert assigners[-1] == DynamicSoftLabel()
    radius = {"hard": 2.5, "soft": DynamicSoftLabel().center_radius}
    assert all(item.center_radius == radius[item.center_prior] for item in assigners)


def test_every_assigner_is_compared_once() -> None:
    trials = list(on_coco("rtmdet/assigners").values())
    assigners = [item.spec.setup.detector.assigner for item in trials]
    assert sorted(map(repr, assigners)) == sorted(repr(kind()) for kind in get_args(AnyAssigner))
    assert len({(item.params, item.macs) for item in trials}) == 1
    printed = {"DSLA": DynamicSoftLabel, "SimOTA": SimOTA}
    kinds = [type(assigner) for assigner in assigners]
    assert all(printed[str(row["assigner"])] in kinds for row in table("rtmdet/assigners"))


def test_the_last_step_is_rtmdet() -> None:
    last = list(on_coco("rtmdet/step_by_step").values())[-1]
    assert last.spec.setup.detector == detectors.CONFIGS["rtmdet_s"]


def test_the_variants_of_the_encoder_train_as_long_as_published() -> None:
    assert all(item.epochs == 12 for item in on_coco("rtdetr/encoder_variants").values())


def test_every_trained_decoder_layer_is_used_once() -> None:
    trials = on_coco("rtdetr/decoder_layers").values()
    heads = [item.spec.setup.detector.head for item in trials]
    assert heads[0].num_layers == 7
    found = {(head.num_layers, head.layers_used or head.num_layers) for head in heads}
    printed = {
        (trained, int(str(row["layer_used"])))
        for row in table("rtdetr/decoder_layers")
        for trained in range(4, 8)
        if row[f"Det{trained}"] is not None
    }
    assert found == printed
    assert len(heads) == len(printed) == 22


def test_a_column_of_decoder_layers_is_one_training() -> None:
    items = list(on_coco("rtdetr/decoder_layers").values())
    left = plan.trainings_left(items)
    assert [item.spec.setup.detector.head.num_layers for item in left] == [7, 6, 5, 4]
    by_training = {item.training: item.spec.setup.detector.head.num_layers for item in left}
    for item in items:
        head = item.spec.setup.detector.head
        assert by_training[item.training] == head.num_layers
        assert item.trained_macs >= item.macs
        assert (item.trained_macs == item.macs) == (head.layers_used == 0)


def test_an_early_exit_costs_what_a_shallow_decoder_costs() -> None:
    macs, params = set(), set()
    for item in on_coco("rtdetr/decoder_layers").values():
        head = item.spec.setup.detector.head
        macs.add((head.layers_used or head.num_layers, item.macs))
        params.add((head.num_layers, item.params))
    # A layer of width 256: attention, 8 heads of 12 points with 2 coordinates and a weight, two
    # ways through 1024, three norms; then its classes, and its box through 2 x 256.
    attention = 4 * (256 * 256 + 256)
    sampling = 2 * (256 * 256 + 256) + 8 * 12 * 3 * (256 + 1)
    forward = 256 * 1024 + 1024 + 1024 * 256 + 256
    outputs = (256 + 1) * 80 + 2 * (256 * 256 + 256) + (256 + 1) * 4
    layer = attention + sampling + forward + 3 * 2 * 256 + outputs
    assert [depth for depth, _ in sorted(params)] == [4, 5, 6, 7]
    assert set(np.diff([count for _, count in sorted(params)])) == {layer}
    assert [used for used, _ in sorted(macs)] == [1, 2, 3, 4, 5, 6, 7]
    (step,) = set(np.diff([count for _, count in sorted(macs)]))
    assert step > 8400 * 256 * 256  # the values of all tokens, for each layer anew


def test_the_selection_of_queries_changes_nothing_that_is_counted() -> None:
    trials = on_coco("rtdetr/query_selection").values()
    schemes = [item.spec.setup.detector.criterion.query_selection for item in trials]
    rows = table("rtdetr/query_selection")
    printed = [str(row["query_selection"]).replace("-", "_") for row in rows]
    assert schemes == printed
    assert len({(item.params, item.macs) for item in trials}) == 1
    assert all(item.epochs == 12 for item in trials)


def test_queries_cost_macs_and_no_parameters() -> None:
    trials = list(on_coco("rtdetr/num_queries").values())
    assert len({item.params for item in trials}) == 1
    assert all(a.macs < b.macs for a, b in zip(trials, trials[1:], strict=False))
    assert 300 in {item.spec.setup.detector.head.num_queries for item in trials}


@pytest.mark.parametrize("name", RTDETR)
def test_nothing_is_frozen_that_nobody_trained(name: str) -> None:
    for item in on_coco(name).values():
        backbone = item.spec.setup.detector.backbone
        assert (backbone.freeze_norm, backbone.frozen_stages) == (False, 0)
        assert item.spec.recipe is not None
        assert item.spec.recipe.backbone_lr == 1.0


@pytest.mark.parametrize("name", [name for name in RTDETR if name in ON_COCO])
def test_with_weights_the_same_study_freezes_and_slows_as_published(name: str) -> None:
    setup = resolve_auto(packaged(name).setup(), from_weights=True)
    backbone = setup.detector.backbone
    published = (True, 1) if backbone.block == "bottleneck" else (False, 0)
    assert (backbone.freeze_norm, backbone.frozen_stages) == published
    assert setup.recipe is not None
    assert setup.recipe.backbone_lr == 0.1


@pytest.mark.parametrize("name", RTMDET)
def test_the_recipe_resizes_as_published_for_the_size(name: str) -> None:
    for item in on_coco(name).values():
        lowest = 0.1 if item.spec.setup.detector.backbone.width_mult >= 0.75 else 0.5
        assert item.spec.recipe is not None
        assert item.spec.recipe.augment.resize_range == (lowest, 2.0)


@pytest.mark.parametrize("name", ON_COCO)
def test_the_comment_names_table_and_cost(name: str) -> None:
    text = comment(name)
    source = packaged(name).source
    assert f"Repeats: {f'{source}, ' if source else 'no published table; '}" in text
    trainings = plan.trainings_left(list(on_coco(name).values()))
    work = sum(item.training_macs for item in trainings)
    assert f"Cost: {work:.1e} MACs for {NUMBERS[len(trainings)]} training" in text


@pytest.mark.parametrize("name", ON_COCO)
def test_the_comment_names_knobs_that_can_be_set(name: str) -> None:
    changes = re.findall(r"--set ('[^']*'|\S+)", comment(name))
    assert changes
    plain = packaged(name).setup()
    for change in changes:
        assert load_study(name, sets=[change.strip("'")]).setup() != plain, change


@pytest.mark.parametrize("name", ON_COCO)
def test_the_command_of_the_comment_shrinks_the_study_to_minutes(name: str) -> None:
    words, sets = shrunk(name)
    assert words == ["detbench", "run", name, "--data", "FOLDER"]
    specs = expand(load_study(name, data="FOLDER", sets=sets), lambda _: dataset(3, SMALL))
    assert [spec.name for spec in specs] == list(on_coco(name))
    one_each = {spec.training: spec for spec in reversed(specs)}.values()
    items = plan.plan(list(one_each), Path("no-records"))
    assert 0 < sum(item.training_macs for item in plan.trainings_left(items)) <= MINUTES
    ranges = {item.spec.recipe.augment.resize_range for item in items if item.spec.recipe}
    assert ranges == {(0.5, 2.0) if name in RTMDET else None}


@pytest.mark.parametrize(("images", "accumulate"), [(14, 1), (14, 2), (3, 2)])
def test_a_plan_counts_the_steps_that_training_takes(
    tmp_path: Path, images: int, accumulate: int
) -> None:
    changes = {"data.shapes.train_images": images, "recipe.accumulate": accumulate}
    study = load_study(write(tmp_path, set=TOY["set"] | changes))
    item = plan.plan(expand(study), tmp_path)[0]
    assert item.spec.recipe is not None
    detector = item.spec.setup.detector.build()
    training = train(detector, load(item.spec.data), item.spec.recipe, seed=0, device="cpu")
    assert training.curves[-1]["step"] == item.steps
