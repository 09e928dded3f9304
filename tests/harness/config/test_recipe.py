"""Recipes load, change, and refuse what they don't know."""

from pathlib import Path

import pytest

from harness.config.recipe import Recipe, RecipeError, load, names
from harness.config.settings import Settings, knobs


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, "utf-8")
    return file


@pytest.mark.parametrize("name", names())
def test_every_recipe_that_ships_is_valid(name: str) -> None:
    assert load(name).epochs > 0


RTMDET = {
    "epochs": 300,
    "batch_size": 256,
    "lr": 0.004,
    "lr_base_batch": 256,
    "backbone_lr": 1.0,
    "optimizer": "adamw",
    "betas": (0.9, 0.999),
    "weight_decay": 0.05,
    "no_decay": "norm_bias",
    "warmup_steps": 1000,
    "warmup_start": 1e-5,
    "schedule": "flat_cosine",
    "flat_until": 0.5,
    "lr_end": 0.05,
    "ema_decay": 0.9998,
    "ema_ramp": 2000,
    "clip_norm": None,
    "precision": "fp32",
    "validate_every": 10,
    "last_epochs": 20,
}


@pytest.mark.parametrize(
    ("name", "lowest", "mosaic", "mixup"),
    [
        ("rtmdet", 0.1, (1.0, 40, "random"), (1.0, 20, "random")),
        ("rtmdet_s", 0.5, (1.0, 40, "random"), (1.0, 20, "random")),
        ("rtmdet_tiny", 0.5, (1.0, 20, "fifo"), (0.5, 10, "fifo")),
    ],
)
def test_the_recipes_of_rtmdet_are_the_published_ones(
    name: str, lowest: float, mosaic: tuple[object, ...], mixup: tuple[object, ...]
) -> None:
    recipe = load(name)
    assert {knob: getattr(recipe, knob) for knob in RTMDET} == RTMDET
    first, last = recipe.augment, recipe.last_augment
    assert last is not None
    for stage in (first, last):
        assert (stage.resize_range, stage.hsv, stage.flip) == ((lowest, 2.0), (5, 30, 30), 0.5)
        assert (stage.distort, stage.zoom_out, stage.iou_crop) == (0, None, None)
    assert first.mosaic is not None
    assert first.mixup is not None
    for step, expected in ((first.mosaic, mosaic), (first.mixup, mixup)):
        assert step.cached
        assert (step.probability, step.cache_size, step.eviction) == expected
    assert (last.mosaic, last.mixup) == (None, None)


@pytest.mark.parametrize("name", ["rtdetr", "rtdetr_r101", "rtdetr_hgnetv2_l"])
def test_the_recipes_of_rtdetr_are_the_published_ones(name: str) -> None:
    recipe = load(name)
    assert (recipe.epochs, recipe.batch_size, recipe.accumulate) == (72, 16, 1)
    assert (recipe.lr, recipe.lr_base_batch, recipe.backbone_lr) == (1e-4, 16, "auto")
    assert (recipe.optimizer, recipe.betas) == ("adamw", (0.9, 0.999))
    assert (recipe.weight_decay, recipe.clip_norm) == (1e-4, 0.1)
    assert (recipe.warmup_steps, recipe.warmup_start, recipe.schedule) == (2000, 1e-3, "constant")
    assert (recipe.ema_decay, recipe.ema_ramp, recipe.last_epochs) == (0.9999, 2000, 0)
    steps = recipe.augment
    assert (steps.distort, steps.flip, steps.resize_range, steps.hsv) == (0.5, 0.5, None, None)
    assert (steps.mosaic, steps.mixup) == (None, None)
    assert steps.zoom_out is not None
    assert (steps.zoom_out.probability, steps.zoom_out.largest) == (0.5, 4.0)
    assert steps.iou_crop is not None
    crop = steps.iou_crop
    assert (crop.probability, crop.scale, crop.aspect) == (0.8, (0.3, 1.0), (0.5, 2.0))
    sizes = [480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800]
    assert steps.multi_scale is not None
    assert [round(640 * share) for share in steps.multi_scale] == sizes


@pytest.mark.parametrize("family", ["rtmdet", "rtdetr"])
def test_fine_tuning_is_shorter_than_training_and_otherwise_alike(family: str) -> None:
    published, found = load(family), load(f"{family}_finetune")
    alike = ("optimizer", "betas", "weight_decay", "no_decay", "clip_norm")
    assert [getattr(found, knob) for knob in alike] == [getattr(published, knob) for knob in alike]
    shorter = ("epochs", "batch_size", "warmup_steps", "ema_decay", "ema_ramp")
    assert all(getattr(found, knob) < getattr(published, knob) for knob in shorter)
    assert found.backbone_lr == "auto"


def test_changes_reach_nested_knobs(tmp_path: Path) -> None:
    file = write(tmp_path, "{epochs: 3, batch_size: 8, lr: 0.1, augment: {hsv: [5, 30, 30]}}")
    recipe = load(file, {"augment.flip": 0.25, "lr": 0.2})
    assert recipe.augment.flip == 0.25
    assert recipe.augment.hsv == (5, 30, 30)
    assert recipe.lr == 0.2


def test_a_number_that_yaml_reads_as_text_is_taken(tmp_path: Path) -> None:
    assert load(write(tmp_path, "{epochs: 3, batch_size: 8, lr: 1e-3}")).lr == 0.001


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, r"no knob 'epoch'; did you mean epochs\? A recipe has epochs, batch_size"),
        ({"augment.flp": 0.5}, r"no knob 'augment.flp'; did you mean augment.flip\?"),
        ({"flip": 0.5}, r"no knob 'flip'"),
        ({"epochs": "ten"}, r"epochs: .* integer.*, got 'ten'"),
        ({"epochs": True}, r"epochs: true and false are no values of this knob"),
        ({"epochs": 0}, r"epochs: .* greater than 0, got 0"),
        ({"backbone_lr": 0}, r"backbone_lr: .* greater than 0, got 0"),
        ({"precision": "fp8"}, r"precision: .*'fp32', 'bf16' or 'fp16', got 'fp8'"),
        ({"augment": 3}, r"augment: .*got 3"),
        ({"augment.resize_range": [0.5]}, r"augment.resize_range"),
        ({"backbone_lr": "fast"}, r"backbone_lr: .*, got 'fast'"),
        ({"backbone_lr": True}, r"backbone_lr: true and false are no values of this knob"),
        ({"frozen": ["stem"]}, r"frozen.0: .*'backbone', 'neck' or 'head', got 'stem'"),
        ({"frozen": ["neck", "neck"]}, r"frozen names a stage twice: neck, neck"),
        ({"frozen": ["head", "neck", "backbone"]}, r"frozen names all stages; leave one out"),
        ({"accumulate": 3}, r"accumulate 3 does not divide batch_size 8"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    file = write(tmp_path, "{epochs: 3, batch_size: 8, lr: 0.1}")
    with pytest.raises(RecipeError, match=message) as caught:
        load(file, changes)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{epochs: 3, lr: 0.1}", "batch_size is missing"),
        ("[1, 2]", "expected knobs"),
        ("", "expected knobs"),
        ("epochs: [", r"mine.yaml:1: not YAML"),
        ("lr: 0.1\nepochs: 3\nlr: 0.5", r"mine.yaml:3: 'lr' stands here a second time"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'smok'; did you mean smoke\? There is"):
        load("smok")


def test_switches_take_true_and_false() -> None:
    assert Recipe(epochs=1, batch_size=1, lr=1, channels_last=True).channels_last


def test_what_is_frozen_is_part_of_the_result_and_nothing_frozen_is_not() -> None:
    plain = Recipe(epochs=1, batch_size=1, lr=1)
    assert "frozen" not in plain.of_result()
    frozen = plain.model_copy(update={"frozen": ("backbone",)})
    assert frozen.of_result() == {**plain.of_result(), "frozen": ["backbone"]}


def test_every_knob_says_what_it_is() -> None:
    def undocumented(settings: type[Settings]) -> list[str]:
        return [name for name, field in settings.model_fields.items() if not field.description]

    assert undocumented(Recipe) == []
    assert "augment.hsv" in knobs(Recipe)
