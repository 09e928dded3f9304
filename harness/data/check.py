"""What is wrong with a data set, found before anything trains."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from hotcoco import COCO
from numpy.typing import NDArray
from pydantic import BaseModel

from harness.config.data import DataError
from harness.config.places import Source, locate
from harness.data.classes import one_table
from harness.data.coco import (
    SMALLEST_SIDE,
    absent,
    build_split,
    read_document,
    worth_training_on,
)
from harness.data.dataset import Image, Split, decode

EXAMPLES = 3
Severity = Literal["error", "warning", "info"]


class Finding(BaseModel):
    """One kind of problem in one split."""

    severity: Severity
    """`error`: a study refuses the data set. `warning`: figures may mislead. `info`: to know."""
    code: str
    """A short name: missing_image, undecodable_image, wrong_size, degenerate_box, ..."""
    split: str
    """`train`, `val`, or empty where it concerns both."""
    message: str
    count: int = 1
    """How many images, boxes or classes."""
    examples: list[str] = []
    """Up to three of them."""


class Size(BaseModel):
    """How much there is in a split that can be read."""

    split: str
    images: int
    boxes: int
    """Of single objects: none that marks a crowd."""
    classes: int


class Report(BaseModel):
    """Everything that was found."""

    path: str
    findings: list[Finding] = []
    sizes: list[Size] = []
    """Of each split that could be read."""

    @property
    def ok(self) -> bool:
        """Whether a study could use the data set."""
        return all(finding.severity != "error" for finding in self.findings)


class _Checked(NamedTuple):
    """One split as far as it could be read."""

    split: Split | None
    contents: dict[str, str]  # sha256 of an image file: its name
    findings: list[Finding]


class _File(NamedTuple):
    """One image file as it is."""

    image: Image
    digest: str  # sha256; empty if it could not be read
    size: tuple[int, int] | None  # (h, w); None if it cannot be decoded


def check(path: str | os.PathLike[str], split: str | None = None) -> Report:
    """Examine a folder in COCO layout, every image included; never raises for a bad one.

    Args:
        path: the folder.
        split: the only one to look at, as an evaluation does; None for `train` and `val`, as a
            study needs them.
    """
    folder = Path(os.path.expanduser(path))
    if split is not None:
        checked = _check_split(folder, split)
        return _report(path, checked.findings, checked.split)
    train, val = (_check_split(folder, name) for name in ("train", "val"))
    findings = train.findings + val.findings
    if train.findings and train.findings == [
        finding.model_copy(update={"split": "train"}) for finding in val.findings
    ]:
        findings = [finding.model_copy(update={"split": ""}) for finding in train.findings]
    findings += _leaks(train.contents, val.contents)
    if train.split is not None and val.split is not None:
        findings += _classes(train.split, val.split)
    return _report(path, findings, train.split, val.split)


def _report(path: str | os.PathLike[str], findings: list[Finding], *splits: Split | None) -> Report:
    order: dict[str, int] = {"error": 0, "warning": 1, "info": 2}
    return Report(
        path=str(path),
        findings=sorted(findings, key=lambda item: order[item.severity]),
        sizes=[_size(split) for split in splits if split is not None],
    )


def _size(split: Split) -> Size:
    boxes = int((~split.annotations.crowd).sum())
    classes = len(split.categories)
    return Size(split=split.name, images=len(split), boxes=boxes, classes=classes)


def _check_split(folder: Path, name: str) -> _Checked:
    try:
        source = locate(folder, name)
        document = read_document(source.annotation_file)
    except (DataError, OSError) as error:
        return _Checked(None, {}, [_refused(name, error)])
    findings = _structure(name, source.annotation_file)
    files = _files(source.image_folder, _readable(document["images"]))
    findings += list(_image_findings(name, source, files))
    contents = {file.digest: file.image.file_name for file in files if file.digest}
    try:
        split = build_split(name, source, document)
    except (DataError, OverflowError) as error:
        if not any(finding.severity == "error" for finding in findings):
            findings.append(_refused(name, error))
        return _Checked(None, contents, findings)
    findings = [finding for finding in findings if finding.code != "degenerate_bbox"]
    return _Checked(split, contents, [*findings, *_box_findings(split)])


def _refused(split: str, error: Exception) -> Finding:
    return Finding(severity="error", code="unusable", split=split, message=str(error))


def _structure(split: str, file: Path) -> list[Finding]:
    """Return what hotcoco's health check says about an annotation file."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            health = COCO(str(file)).healthcheck()
    except Exception as error:  # noqa: BLE001 - whatever its parser refuses is a finding
        line = " ".join(str(error).split())
        message = f"{file}: hotcoco cannot read it: {line}"
        return [Finding(severity="warning", code="unread", split=split, message=message)]
    return [
        _health(split, problem, kind) for kind in ("errors", "warnings") for problem in health[kind]
    ]


def _health(split: str, problem: dict[str, Any], kind: str) -> Finding:
    severity: Severity = "info" if problem["layer"] == "Distribution" else "warning"
    ids = problem["affected_ids"]
    return Finding(
        severity="error" if kind == "errors" else severity,
        code=problem["code"],
        split=split,
        message=problem["message"],
        count=max(1, len(ids)),
        examples=[f"id {key}" for key in ids[:EXAMPLES]],
    )


def _readable(rows: list[Any]) -> list[Image]:
    """Return the images whose entries say enough to look at the file."""
    kinds = {"id": int, "file_name": str, "height": int, "width": int}
    return [
        Image(*(row[key] for key in kinds))
        for row in rows
        if isinstance(row, dict)
        and all(isinstance(row.get(key), kind) for key, kind in kinds.items())
    ]


def _files(folder: Path, images: Sequence[Image]) -> list[_File]:
    """Read and decode every image."""

    def look(image: Image) -> _File:
        try:
            data = np.fromfile(folder / image.file_name, np.uint8)
        except (OSError, ValueError):
            return _File(image, "", None)
        pixels = decode(data, (image.height, image.width))
        digest = hashlib.sha256(data.tobytes()).hexdigest()
        return _File(image, digest, None if pixels is None else pixels.shape[:2])

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(look, images))


def _image_findings(split: str, source: Source, files: list[_File]) -> Iterator[Finding]:
    missing = set(absent(source, [file.image for file in files]))
    broken = [file for file in files if file.size is None and file.image.file_name not in missing]
    wrong = [
        f"{image.file_name}: {size[1]}x{size[0]}, not {image.width}x{image.height}"
        for image, _, size in files
        if size is not None and size != (image.height, image.width)
    ]
    yield from _found(
        "error", "missing_image", split, sorted(missing),
        f"image files named in {source.annotation_file.name} are absent from"
        f" {source.image_folder}; add them or remove their entries",
    )  # fmt: skip
    yield from _found(
        "error", "undecodable_image", split, [file.image.file_name for file in broken],
        "image files cannot be decoded; replace them or remove their entries",
    )  # fmt: skip
    yield from _found(
        "error", "wrong_size", split, wrong,
        "images have another size than the annotation file says, which misplaces their boxes;"
        " correct height and width there",
    )  # fmt: skip


def _box_findings(split: Split) -> Iterator[Finding]:
    table = split.annotations
    bad = table.ids[~table.usable & ~table.crowd]
    yield from _found(
        "warning", "degenerate_box", split.name, [f"id {key}" for key in bad],
        "boxes are under a pixel wide or high once clipped to the image; training leaves them out,"
        " evaluation keeps them as COCO does",
    )  # fmt: skip
    kept = worth_training_on(split)
    idle = np.setdiff1d(np.arange(len(split)), kept)
    yield from _found(
        "error" if split.name == "train" and not len(kept) else "info",
        "nothing_to_learn", split.name, [split.images[index].file_name for index in idle],
        f"images have no usable box or a side below {SMALLEST_SIDE} pixels; training leaves"
        " them out unless data.filter_empty=false",
    )  # fmt: skip


def _leaks(train: dict[str, str], val: dict[str, str]) -> Iterator[Finding]:
    same = sorted(train.keys() & val.keys())
    yield from _found(
        "warning", "train_image_in_val", "", [f"{train[key]} = {val[key]}" for key in same],
        "images stand in both train and val, byte for byte; mAP will flatter, so remove one side",
    )  # fmt: skip


def _classes(train: Split, val: Split) -> Iterator[Finding]:
    try:
        val = one_table(train, val)
    except DataError as error:
        yield _refused("", error)
        return
    learnt, asked = _boxes_by_class(train) > 0, _boxes_by_class(val) > 0
    names = np.array([category.name for category in train.categories])
    yield from _found(
        "warning", "class_only_in_val", "", names[asked & ~learnt].tolist(),
        "classes have boxes in val but none in train, so nothing can learn them",
    )  # fmt: skip
    yield from _found(
        "info", "class_only_in_train", "", names[learnt & ~asked].tolist(),
        "classes have boxes in train but none in val, so mAP does not speak of them",
    )  # fmt: skip


def _boxes_by_class(split: Split) -> NDArray[np.int64]:
    """Return the number of boxes of each class, without crowd."""
    table = split.annotations
    return np.bincount(table.labels[~table.crowd], minlength=len(split.categories))


def _found(
    severity: Severity, code: str, split: str, things: Sequence[str], message: str
) -> Iterator[Finding]:
    """Yield one finding if there are any such things."""
    if things:
        yield Finding(
            severity=severity,
            code=code,
            split=split,
            message=f"{len(things)} {message}",
            count=len(things),
            examples=list(things[:EXAMPLES]),
        )
