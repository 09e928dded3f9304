"""Studies whose truth is known: what each variant would have without any luck, and the luck."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.records import Record
from tests.reports.conftest import make_record

Settings = tuple[Any, ...]


def study(
    knobs: Sequence[str],
    truth: Mapping[Settings, tuple[float | None, float | None]],
    *,
    seeds: int = 3,
    scatter: tuple[float, float] = (0.5, 0.05),
    draw: int = 0,
    **changes: Any,
) -> list[Record]:
    """Make trials of variants over seeds.

    Args:
        knobs: names.
        truth: by settings of these knobs: mAP in %, latency in ms; None for not measured.
        seeds: of each variant.
        scatter: standard deviations over trainings, of both.
        draw: the luck is another with another number.
        changes: of all records, as for `make_record`.
    """
    rng = np.random.default_rng(draw)
    luck = rng.normal(size=(seeds, len(truth), 2)) * scatter
    luck += rng.normal(size=(seeds, 1, 2)) * scatter  # of a seed, the same for all
    found, reference = [], None
    for seed, (place, (settings, means)) in itertools.product(
        range(seeds), enumerate(truth.items())
    ):
        accuracy, latency = (
            None if mean is None else mean + more
            for mean, more in zip(means, luck[seed, place].tolist(), strict=True)
        )
        reference = reference or latency
        found.append(_trial(f"t{len(found)}", knobs, settings, seed, accuracy, latency, reference))
    return [one.model_copy(update=changes) for one in found]


def _trial(
    trial: str,
    knobs: Sequence[str],
    settings: Settings,
    seed: int,
    accuracy: float | None,
    latency: float | None,
    reference: float | None,
) -> Record:
    metrics: dict[str, float | None] = dict.fromkeys(("latency_low_ms", "latency_high_ms"))
    metrics |= {"mAP": None if accuracy is None else accuracy / 100, "latency_ms": latency}
    if latency is not None and reference is not None and trial != "t0":
        ratio = latency / reference
        ends = {"": ratio, "_low": ratio - 0.01, "_high": ratio + 0.01}
        metrics |= {f"latency_ratio{end}": value for end, value in ends.items()}
    details: dict[str, Any] = {"together": {"session": "s"}}
    if trial != "t0":
        details["reference"] = "t0"
    overrides = dict(zip((f"detector.{name}" for name in knobs), settings, strict=True))
    return make_record(
        trial,
        seed=seed,
        overrides=overrides,
        config=overrides,
        metrics=metrics,
        details=details,
        environment={"device": "cpu", "host": "h"},
    )
