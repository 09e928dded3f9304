"""The rows of weights that belong to classes: which label's rows a class gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detectors.interface import Detector, WeightsError

ALIKE = 1e-4  # of two scores that should be one
SPREAD = 0.5  # deviation of random rows, which tells the scores of classes apart
TRIED = 5  # classes of the detectors whose rows are moved to try it


def count_labels(detector: Detector, state: Mapping[str, Tensor]) -> int | None:
    """Return how many labels weights have; None where the shapes do not tell.

    Args:
        detector: that takes the weights, whatever its own number of classes is.
        state: the weights under its keys.
    """
    own = detector.state_dict()
    for key, (dim, step) in detector.class_rows().items():
        given = state.get(key)
        if isinstance(given, Tensor) and given.dim() == own[key].dim():
            more = given.shape[dim] - own[key].shape[dim]
            return int(detector.config.num_classes) + more // step if more % step == 0 else None
    return None


def chosen(
    detector: Detector, state: Mapping[str, Tensor], labels: Sequence[int | None]
) -> dict[str, Tensor]:
    """Return the class tensors of a detector whose class k is that of label `labels[k]`.

    Args:
        detector: as it was built; a class without a label keeps its rows.
        state: the weights, of any number of labels, under the detector's keys.
        labels: one for each of the detector's classes; None for a class that the weights lack.

    Raises:
        WeightsError: a label that the weights do not have, or a detector that does not keep each
            class in rows of its own.
    """
    classes, count = detector.config.num_classes, count_labels(detector, state)
    if len(labels) != classes:
        raise WeightsError(f"expected a label for each of {classes} classes, got {len(labels)}")
    if count is None or not keeps_rows(detector):
        raise WeightsError(
            "the classes are not those of the weights in their order, and this detector does not"
            " keep each in rows of its own, which could be moved; start from other weights, or let"
            " all that follows the number of classes start anew"
        )
    wrong = [label for label in labels if label is not None and not 0 <= label < count]
    if wrong:
        raise WeightsError(f"the weights have no label {wrong[0]}; they have 0 to {count - 1}")
    own, moved = detector.state_dict(), {}
    kept = [k for k, label in enumerate(labels) if label is not None]
    wanted = [label for label in labels if label is not None]
    for key, dim in detector.class_tensors().items():
        behind = own[key].shape[dim] - classes  # rows of no class
        shape = list(own[key].shape)
        shape[dim] = count + behind
        if key not in state or list(state[key].shape) != shape:
            there = list(state[key].shape) if key in state else "none"
            raise WeightsError(
                f"{key}: expected the shape {shape} for the weights' {count} labels, got {there}"
            )
        source = torch.tensor([*wanted, *range(count, count + behind)], dtype=torch.int64)
        target = torch.tensor([*kept, *range(classes, classes + behind)], dtype=torch.int64)
        found = state[key].index_select(dim, source).to(own[key])
        moved[key] = own[key].index_copy(dim, target.to(own[key].device), found)
    return moved


@torch.no_grad()
def keeps_rows(detector: Detector) -> bool:
    """Say whether scores change places when rows do, which tells that the rows are the classes'.

    It is tried with random rows, so that it does not depend on what weights there are.
    """
    rows = detector.class_tensors()
    if not rows:
        return False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = replace(detector.config, num_classes=TRIED)
        before, after = (config.build().eval() for _ in range(2))
        state = before.state_dict()
        if any(state[key].shape[dim] < TRIED for key, dim in rows.items()):
            return False
        turned = dict(state)
        for key, dim in rows.items():
            state[key] += SPREAD * torch.randn(state[key].shape)
            order = [*range(TRIED)[::-1], *range(TRIED, state[key].shape[dim])]
            turned[key] = state[key].index_select(dim, torch.tensor(order))
        after.load_state_dict(turned)
        images = torch.rand(1, 3, *config.input.size)
    straight, reverse = (model(images).scores() for model in (before, after))
    return torch.allclose(straight.flip(-1), reverse, atol=ALIKE)
