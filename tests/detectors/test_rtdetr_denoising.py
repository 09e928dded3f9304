"""Denoising queries against the reference's, draw by draw, and against what is worked out here."""

import numpy as np
import pytest
import torch
from torch import Tensor

from detectors.queries import Objects, pad_objects, places
from detectors.rtdetr.denoising import DenoisingConfig, attention_mask, make_noise
from detectors.rtdetr.queries import Noise
from tests.detectors import golden
from tests.detectors.rtdetr_cases import CLASSES, count_waits, golden_objects, random_objects

CASES = ["two", "with_empty", "many"]


def expected(name: str, key: str) -> np.ndarray:
    return golden.arrays("rtdetr_train.npz")[f"dn.{name}.{key}"]


def noise(objects: Objects, seed: int = 0, **knobs: float) -> Noise:
    torch.manual_seed(seed)
    made = make_noise(objects, CLASSES, DenoisingConfig(**knobs))
    assert made is not None
    return made


def assert_golden(made: Noise, name: str) -> None:
    assert made.groups == expected(name, "dn_num_group")
    np.testing.assert_array_equal(made.labels.numpy(), expected(name, "noised_labels"))
    golden.assert_few_steps(made.boxes.numpy(), expected(name, "noised_boxes_unact"))


@pytest.mark.parametrize("name", CASES)
def test_the_same_seed_gives_the_references_numbers(name: str) -> None:
    assert_golden(noise(golden_objects(name)), name)


@pytest.mark.parametrize("name", CASES)
def test_the_references_draws_give_its_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*keys: str) -> object:
        values = iter([torch.from_numpy(expected(name, key)) for key in keys])
        return lambda like, *args, **kwargs: next(values).to(getattr(like, "dtype", None))

    monkeypatch.setattr(torch, "rand", draw("draw_label_uniform"))
    monkeypatch.setattr(torch, "randint_like", draw("draw_new_label", "draw_sign_bit"))
    monkeypatch.setattr(torch, "rand_like", draw("draw_box_uniform"))
    assert_golden(noise(golden_objects(name), seed=1), name)


@pytest.mark.parametrize("name", CASES)
def test_positives_equal_the_references(name: str) -> None:
    objects = golden_objects(name)
    positives = noise(objects).positives
    for image, count in enumerate(objects.counts):
        of_image = positives.image == image
        queries = positives.query[of_image]
        np.testing.assert_array_equal(queries.numpy(), expected(name, f"dn_positive_idx{image}"))
        found = positives.object[of_image] - sum(objects.counts[:image])
        assert found.tolist() == list(range(count)) * (len(queries) // max(count, 1))


@pytest.mark.parametrize("name", CASES)
def test_mask_equals_the_references(name: str) -> None:
    made = noise(golden_objects(name))
    denoising, matching = expected(name, "dn_num_split")
    assert made.queries == denoising
    mask = attention_mask(made, int(matching)).numpy()
    shape = expected(name, "attn_mask_shape")
    bits = np.unpackbits(expected(name, "attn_mask"))[: shape.prod()]
    np.testing.assert_array_equal(mask, bits.reshape(shape))


def test_mask_of_two_groups_of_one_object() -> None:
    made = noise(random_objects(1), num_queries=2)
    assert (made.groups, made.queries) == (2, 4)
    rows = ["001100", "001100", "110000", "110000", "111100", "111100"]
    assert attention_mask(made, 2).tolist() == [[bit == "1" for bit in row] for row in rows]


def test_places_and_padding() -> None:
    objects = random_objects(2, 0, 3)
    image, place = places(objects.counts, objects.labels.device)
    assert image.tolist() == [0, 0, 2, 2, 2]
    assert place.tolist() == [0, 1, 0, 1, 2]
    labels, boxes = pad_objects(objects, 7)
    assert labels.tolist() == [
        [*objects.labels[:2].tolist(), 7],
        [7, 7, 7],
        objects.labels[2:].tolist(),
    ]
    torch.testing.assert_close(boxes[2], objects.boxes[2:])
    assert boxes[1].count_nonzero() == 0


def originals(objects: Objects, made: Noise) -> tuple[Tensor, Tensor]:
    """Return the labels and boxes that the queries started from."""
    labels, boxes = pad_objects(objects, CLASSES)
    return labels.repeat(1, 2 * made.groups), boxes.repeat(1, 2 * made.groups, 1)


def test_without_noise_queries_are_the_objects() -> None:
    objects = random_objects(3, 1)
    made = noise(objects, label_noise=0.0, box_noise=0.0)
    labels, boxes = originals(objects, made)
    assert torch.equal(made.labels, labels)
    sides = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    corners = torch.cat(sides, dim=-1).clamp(0, 1)
    centres = (corners[..., :2] + corners[..., 2:]) / 2
    clipped = torch.cat((centres, corners[..., 2:] - corners[..., :2]), dim=-1)
    torch.testing.assert_close(made.boxes.sigmoid(), clipped.clamp(min=1e-5), rtol=1e-4, atol=1e-5)


def test_labels_change_as_often_as_asked_and_padding_never() -> None:
    objects = random_objects(50, 20)
    for share in (0.5, 2.0):
        made = noise(objects, num_queries=5000, label_noise=share)
        labels, _ = originals(objects, made)
        real = labels < CLASSES
        changed = (made.labels != labels)[real].float().mean().item()
        assert changed == pytest.approx(share / 2 * (1 - 1 / CLASSES), abs=0.02)
        assert made.labels[real].max() < CLASSES
        assert (made.labels[~real] == CLASSES).all()
        assert (made.boxes[~real] == made.boxes.min()).all()


def test_near_queries_move_less_than_far_ones() -> None:
    middle = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    objects = Objects(torch.tensor([3]), middle, (1,), (320, 320))
    made = noise(objects, num_queries=500, box_noise=0.6)
    x, y, w, h = made.boxes[0].sigmoid().unbind(-1)
    sides = torch.stack((x - w / 2 - 0.4, y - h / 2 - 0.3, x + w / 2 - 0.6, y + h / 2 - 0.7), dim=1)
    shift = sides.abs() / torch.tensor([0.1, 0.2, 0.1, 0.2])  # in half widths and heights
    near, far = shift[::2], shift[1::2]
    assert near.max() == pytest.approx(0.6, abs=0.01)
    assert near.min() == pytest.approx(0.0, abs=0.01)
    assert far.max() == pytest.approx(1.2, abs=0.01)
    assert far.min() == pytest.approx(0.6, abs=0.01)
    assert (sides > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_no_noise_without_objects_or_when_it_is_off() -> None:
    assert make_noise(random_objects(0, 0), CLASSES, DenoisingConfig()) is None
    assert make_noise(random_objects(2), CLASSES, DenoisingConfig(num_queries=0)) is None


def test_nothing_waits_for_the_device() -> None:
    objects = random_objects(3, 0, 5)
    with count_waits() as reads:
        attention_mask(noise(objects), 300)
    assert reads == {}


def test_it_runs_without_memory() -> None:
    labels, boxes, counts, size = random_objects(3, 1)
    made = noise(Objects(labels.to("meta"), boxes.to("meta"), counts, size))
    assert made.boxes.shape == (2, 198, 4)
    assert attention_mask(made, 300).shape == (498, 498)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_queries": -1}, "num_queries"),
        ({"box_noise": -0.1}, "box_noise"),
        ({"label_noise": 2.1}, "label_noise"),
        ({"label_noise": -0.1}, "label_noise"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenoisingConfig(**wrong)
