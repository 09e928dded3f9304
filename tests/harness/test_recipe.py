"""Recipes load, change, and refuse what they don't know."""

from pathlib import Path

import pytest

from harness.recipe import Recipe, RecipeError, load, names
from harness.settings import Settings, knobs


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", names())
def test_every_recipe_that_ships_is_valid(name: str) -> None:
    assert load(name).epochs > 0


def test_the_reference_recipe_is_the_published_one() -> None:
    recipe = load("rtmdet")
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (300, 256, 0.004)
    assert (recipe.warmup_steps, recipe.warmup_start, recipe.flat_until) == (1000, 1e-5, 0.5)
    assert (recipe.ema_decay, recipe.weight_decay, recipe.lr_end) == (0.9998, 0.05, 0.05)
    assert recipe.augment.resize_range == (0.5, 2.0)


def test_the_recipe_of_rtdetr_is_the_published_one() -> None:
    recipe = load("rtdetr")
    assert (recipe.epochs, recipe.batch_size, recipe.accumulate) == (72, 16, 1)
    assert (recipe.lr, recipe.lr * recipe.backbone_lr) == (1e-4, pytest.approx(1e-5))
    assert (recipe.weight_decay, recipe.clip_norm) == (1e-4, 0.1)
    assert (recipe.warmup_steps, recipe.warmup_start, recipe.schedule) == (2000, 1e-3, "constant")
    assert (recipe.ema_decay, recipe.ema_ramp) == (0.9999, 2000)
    assert (recipe.augment.resize_range, recipe.augment.hsv, recipe.augment.flip) == (
        None,
        None,
        0.5,
    )


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
        ("epochs: [", "cannot be read"),
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


def test_every_knob_says_what_it_is() -> None:
    def undocumented(settings: type[Settings]) -> list[str]:
        return [name for name, field in settings.model_fields.items() if not field.description]

    assert undocumented(Recipe) == []
    assert "augment.hsv" in knobs(Recipe)
