"""Drawing of one `shapes` scene: textured outlines over a cluttered background."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.data import ShapesConfig

Pixels = NDArray[np.uint8]
Outline = list[NDArray[np.float64]]  # polygons [P, 2] in [-1, 1]; an inner one is a hole

ATTEMPTS = 12  # places tried for an object before it is given up
CONTRAST = 80.0  # least distance in BGR between an object and what lies under it
_FRACTION_BITS = 4  # of polygon vertices


class Scene(NamedTuple):
    """An image and its objects."""

    image: Pixels  # [S, S, 3] BGR
    boxes: NDArray[np.int64]  # [M, 4] xyxy, pixels: the whole object, clipped to the image
    labels: NDArray[np.int64]  # [M]
    areas: NDArray[np.int64]  # [M] pixels of the object inside the image, covered ones included


class _Object(NamedTuple):
    """An object that found its place."""

    x: slice  # of the image
    y: slice
    alpha: Pixels  # [h, w] of that part of the image
    label: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        return self.alpha >= 128


def _polygon(corners: int, inner: float = 1.0) -> NDArray[np.float64]:
    """Return a regular polygon, or a star where every other corner lies at radius `inner`."""
    angles = 2 * math.pi * np.arange(corners) / corners
    radii = np.where(np.arange(corners) % 2 == 0, 1.0, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


_CROSS = (
    (-0.36, -1), (0.36, -1), (0.36, -0.36), (1, -0.36), (1, 0.36), (0.36, 0.36),
    (0.36, 1), (-0.36, 1), (-0.36, 0.36), (-1, 0.36), (-1, -0.36), (-0.36, -0.36),
)  # fmt: skip
_ZIGZAG = (
    (-1, -1), (1, -1), (1, -0.6), (-0.35, 0.55), (1, 0.55), (1, 1),
    (-1, 1), (-1, 0.6), (0.35, -0.55), (-1, -0.55),
)  # fmt: skip
CLASSES: dict[str, Outline] = {
    "triangle": [_polygon(3)],
    "star": [_polygon(10, inner=0.42)],
    "ellipse": [_polygon(40)],
    "ring": [_polygon(40), 0.55 * _polygon(40)],
    "cross": [np.array(_CROSS)],
    "zigzag": [np.array(_ZIGZAG)],
}


def draw(config: ShapesConfig, rng: np.random.Generator) -> Scene:
    """Draw one scene."""
    canvas = _background(config, rng)
    objects = _arrange(config, rng)
    for item in objects:
        _paint(canvas[item.y, item.x], item.alpha, rng)
    sigma = float(rng.uniform(0.3, 0.8))
    canvas = np.asarray(cv2.GaussianBlur(canvas, (3, 3), sigma), np.float32)
    canvas += config.noise * rng.standard_normal(canvas.shape, np.float32)
    boxes = [(item.x.start, item.y.start, item.x.stop, item.y.stop) for item in objects]
    return Scene(
        np.clip(canvas, 0, 255).astype(np.uint8),
        np.array(boxes, np.int64).reshape(-1, 4),
        np.array([item.label for item in objects], np.int64),
        np.array([item.mask.sum() for item in objects], np.int64),
    )


def _arrange(config: ShapesConfig, rng: np.random.Generator) -> list[_Object]:
    """Choose objects and places such that no more than the allowed share of any is hidden."""
    owner = np.full((config.size, config.size), -1, np.int64)  # object seen at each pixel
    objects: list[_Object] = []
    seen, least = np.zeros(0, np.int64), np.zeros(0)  # pixels of each object
    for _ in range(int(rng.integers(config.objects[0], config.objects[1] + 1))):
        label = int(rng.integers(config.classes))
        stamp = _stamp(CLASSES[list(CLASSES)[label]], _side(config, rng), rng)
        whole = int((stamp >= 128).sum())
        for _ in range(ATTEMPTS):
            item = _drop(stamp, label, config.size, rng)
            under = owner[item.y, item.x]
            left = seen - np.bincount(under[item.mask] + 1, minlength=len(seen) + 1)[1:]
            inside = int(item.mask.sum())
            if inside >= (1 - config.hidden) * whole and (left >= least).all():
                under[item.mask] = len(objects)
                objects.append(item)
                seen = np.append(left, inside)
                least = np.append(least, (1 - config.hidden) * whole)
                break
    return objects


def _side(config: ShapesConfig, rng: np.random.Generator) -> float:
    """Draw the longer side of an object, pixels, evenly in the logarithm."""
    low, high = np.log(config.sides)
    return float(config.size * np.exp(rng.uniform(low, high)))


def _stamp(outline: Outline, side: float, rng: np.random.Generator) -> Pixels:
    """Draw an outline turned and stretched at random, cropped to its pixels: [h, w] coverage."""
    angle, stretch = rng.uniform(0, 2 * math.pi), math.exp(rng.uniform(-0.45, 0.45))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    polygons = [(polygon * (stretch, 1 / stretch)) @ turn for polygon in outline]
    low = np.min([polygon.min(axis=0) for polygon in polygons], axis=0)
    high = np.max([polygon.max(axis=0) for polygon in polygons], axis=0)
    scale = side / (high - low).max()
    points = [
        np.rint(((polygon - low) * scale + 1) * 2**_FRACTION_BITS).astype(np.int32)
        for polygon in polygons
    ]
    width, height = np.ceil((high - low) * scale).astype(int) + 3
    alpha = np.zeros((height, width), np.uint8)
    cv2.fillPoly(alpha, points, 255, cv2.LINE_AA, _FRACTION_BITS)
    rows, columns = np.flatnonzero((alpha >= 128).any(1)), np.flatnonzero((alpha >= 128).any(0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _drop(stamp: Pixels, label: int, size: int, rng: np.random.Generator) -> _Object:
    """Put a stamp anywhere with its centre inside the image, and crop it to what the image shows.

    The crop is tight again, so that the box of what is left touches pixels on all four sides.
    """
    height, width = stamp.shape
    x, y = int(rng.integers(size)) - width // 2, int(rng.integers(size)) - height // 2
    shown = stamp[max(0, -y) : size - y, max(0, -x) : size - x]
    rows, columns = np.flatnonzero((shown >= 128).any(1)), np.flatnonzero((shown >= 128).any(0))
    if not len(rows):
        return _Object(slice(0, 0), slice(0, 0), stamp[:0, :0], label)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    x, y = max(x, 0), max(y, 0)
    return _Object(
        slice(x + int(left), x + int(right)),
        slice(y + int(top), y + int(bottom)),
        shown[top:bottom, left:right],
        label,
    )


def _paint(patch: NDArray[np.float32], alpha: Pixels, rng: np.random.Generator) -> None:
    """Blend a textured object into a part of the canvas, in place."""
    under = patch.mean(axis=(0, 1))
    candidates = rng.uniform(0, 255, (8, 3))
    far = np.linalg.norm(candidates - under, axis=1)
    first = candidates[int(np.argmax(far > CONTRAST)) if (far > CONTRAST).any() else far.argmax()]
    second = np.clip(first + rng.uniform(-70, 70, 3), 0, 255)
    share = _texture(alpha.shape[0], alpha.shape[1], rng)[..., None]
    colour = (first + share * (second - first)).astype(np.float32)
    patch += (colour - patch) * (alpha[..., None].astype(np.float32) / 255)


def _texture(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the share of an object's second colour, [h, w] in [0, 1]."""
    kind, angle = int(rng.integers(5)), float(rng.uniform(0, math.pi))
    y, x = np.ogrid[:height, :width]
    along = (x * math.cos(angle) + y * math.sin(angle)).astype(np.float32)
    period = float(rng.uniform(4, 12))
    if kind == 0:  # plain
        return np.zeros((height, width), np.float32)
    if kind == 1:  # stripes
        return (along % period > period / 2).astype(np.float32)
    if kind == 2:  # checks
        return ((x // (period / 2) + y // (period / 2)) % 2).astype(np.float32)
    if kind == 3:  # gradient
        along -= along.min()
        return along / max(float(along.max()), 1.0)
    return (rng.random((height, width), np.float32) < 0.3).astype(np.float32)  # speckles


def _background(config: ShapesConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw what is no object: a gradient, soft blotches, and strokes and tiles of no class."""
    size = config.size
    corners = rng.uniform(30, 225, (2, 2, 3)).astype(np.float32)
    canvas = np.asarray(cv2.resize(corners, (size, size)), np.float32)
    if config.clutter:
        blotches = rng.uniform(-60, 60, (7, 7, 3)).astype(np.float32)
        smooth = cv2.resize(blotches, (size, size), interpolation=cv2.INTER_CUBIC)
        canvas += np.asarray(config.clutter * smooth, np.float32)
    canvas = np.ascontiguousarray(np.clip(canvas, 0, 255))
    for _ in range(round(config.clutter * float(rng.uniform(5, 35)))):
        _distract(canvas, rng)
    return canvas


def _distract(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Draw one stroke, arc or tile, in place."""
    size = canvas.shape[0]
    colour = tuple(rng.uniform(0, 255, 3).tolist())
    (x, y), (u, v) = rng.integers(0, size, (2, 2)).tolist()
    reach = size // 6
    thickness = int(rng.integers(1, max(2, size // 64)))
    kind = int(rng.integers(4))
    if kind == 0:  # a long stroke
        cv2.line(canvas, (x, y), (u, v), colour, thickness, cv2.LINE_AA)
    elif kind == 1:  # an open arc
        axes = (1 + u % reach, 1 + v % reach)
        angle, start = float(rng.uniform(0, 180)), float(rng.uniform(0, 360))
        end = start + float(rng.uniform(40, 160))
        cv2.ellipse(canvas, (x, y), axes, angle, start, end, colour, thickness, cv2.LINE_AA)
    elif kind == 2:  # a tile
        cv2.rectangle(canvas, (x, y), (x + 2 + u % reach, y + 2 + v % reach), colour, -1)
    else:  # crumbs
        for dx, dy in rng.integers(-reach, reach, (6, 2)).tolist():
            cv2.circle(canvas, (x + dx, y + dy), 1, colour, -1)
