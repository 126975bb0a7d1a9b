"""Render a creature with signed distances, in numpy; about 1 ms for 64 x 64 pixels.

Image coordinates x (right) and y (up) run over [-1, 1]; colors are float32 RGB in [0, 1] until
the last line. All variation between images of one creature comes from the RandomState passed by the
caller, whose stream is the same in all numpy versions, so the same state gives the same image (up
to the rounding of sine and square root).
"""

import colorsys
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from . import shapes
from .looks import Look
from .species import Creature

Array = np.ndarray

# Hue, saturation, value.
_COLORS = {
    "red": (0.0, 0.80, 0.80),
    "orange": (0.075, 0.90, 0.95),
    "yellow": (0.15, 0.85, 0.93),
    "green": (0.34, 0.70, 0.60),
    "blue": (0.60, 0.75, 0.80),
    "purple": (0.78, 0.60, 0.70),
    "brown": (0.065, 0.60, 0.45),
    "grey": (0.6, 0.06, 0.55),
}
_GROUNDS = {
    "studio": (0.10, 0.06, 0.82),
    "grass": (0.27, 0.55, 0.60),
    "sand": (0.11, 0.38, 0.82),
    "water": (0.54, 0.50, 0.70),
    "snow": (0.58, 0.05, 0.95),
    "forest": (0.36, 0.50, 0.32),
}
_PAPER = np.array([0.96, 0.95, 0.90], np.float32)
_NIGHT = np.array([0.85, 0.92, 1.15], np.float32)
_TURN = 2 * math.pi


class Rendering(NamedTuple):
    """An image (S, S, 3) uint8 and boolean masks (S, S) of the creature's parts.

    The body hides the ornament and the tail behind it; the mask of a missing part is empty.
    """

    image: Array
    body: Array
    ornament: Array
    tail: Array


class _Frame(NamedTuple):
    """Creature coordinates of every pixel, and the size of a pixel in them."""

    u: Array
    v: Array
    pixel: float


def render(
    creature: Creature, background: str, look: Look, rng: np.random.RandomState, size: int = 64
) -> Rendering:
    """Render one image of a creature in front of a background (one of BACKGROUNDS)."""
    x, y = _grid(size)
    image = _ground(background, look, rng, size)
    image = _scatter(image, rng.randint(look.clutter + 1), look, rng)
    frame = _pose(x, y, look, rng)
    image, parts = _draw(image, creature, frame, look, rng)
    if rng.rand() < look.occlusion:
        image = _scatter(image, 1, look, rng)
    return Rendering(_photograph(image, look, rng), *parts)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[Array, Array]:
    """Return the pixel centers x and y, each (size, size)."""
    centers = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(centers, -centers)
    return x, y


@lru_cache(maxsize=16)
def _interpolation(size: int, knots: int) -> Array:
    """Return the matrix (size, knots) of linear interpolation between equally spaced knots."""
    place = np.linspace(0, knots - 1, size)
    left = np.minimum(place.astype(int), knots - 2)
    weight = (place - left).astype(np.float32)
    matrix = np.zeros((size, knots), np.float32)
    matrix[np.arange(size), left] = 1 - weight
    matrix[np.arange(size), left + 1] += weight
    return matrix


def _normal(rng: np.random.RandomState, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def _smooth_noise(rng: np.random.RandomState, size: int, knots: int) -> Array:
    matrix = _interpolation(size, knots)
    return matrix @ _normal(rng, knots, knots) @ matrix.T


def _rgb(hue: float, saturation: float, value: float) -> Array:
    saturation, value = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def _over(
    image: Array, distance: Array, color: Array | np.float32, pixel: float, opacity: float
) -> Array:
    """Paint a shape over the image, with one pixel of anti-aliasing."""
    cover = np.clip(0.5 - distance / pixel, 0, 1) * opacity
    return image + cover[..., None] * (color - image)


def _ground(background: str, look: Look, rng: np.random.RandomState, size: int) -> Array:
    hue, saturation, value = _GROUNDS[background]
    color = _rgb(
        hue + rng.randn() * 0.02, saturation * rng.uniform(0.7, 1.2), value * rng.uniform(0.85, 1.1)
    )
    texture = _smooth_noise(rng, size, 5) * 0.05
    if background in ("grass", "forest"):
        texture += _smooth_noise(rng, size, 22) * 0.06
    elif background == "water":
        texture += 0.06 * np.sin(_grid(size)[1] * 18 + 3 * _smooth_noise(rng, size, 4))
    elif background == "sand":
        texture += _normal(rng, size, size) * 0.05
    image = color + texture[..., None]
    return image * (1 - look.paper) + look.paper * _PAPER


def _scatter(image: Array, count: int, look: Look, rng: np.random.RandomState) -> Array:
    """Paint `count` pebbles, sticks, leaves and boxes."""
    x, y = _grid(len(image))
    pixel = 2.0 / len(image)
    for _ in range(count):
        cx, cy = rng.uniform(-1, 1), rng.uniform(-1, 1)
        radius, turn = rng.uniform(0.05, 0.16), rng.uniform(0, _TURN)
        color = _rgb(rng.rand(), rng.uniform(0.1, 0.8), rng.uniform(0.3, 0.95))
        if look.saturation < 1:
            color = color * look.saturation + color.mean() * (1 - look.saturation)

        def end(length: float, at: tuple[float, float] = (cx, cy), turn: float = turn) -> tuple:
            return at[0] + math.cos(turn) * length, at[1] + math.sin(turn) * length

        kind = rng.randint(4)
        if kind == 0:
            distance = shapes.circle(x, y, cx, cy, radius)
        elif kind == 1:
            distance = shapes.stroke(x, y, (cx, cy), end(4 * radius), 0.03, 0.03)
        elif kind == 2:
            distance = shapes.stroke(x, y, (cx, cy), end(3 * radius), 0.7 * radius, 0.01)
        else:
            distance = np.maximum(np.abs(x - cx), np.abs(y - cy)) - 0.8 * radius
        image = _over(image, distance, color, pixel, 0.6 if look.outline else 1.0)
        if look.outline:
            line = np.abs(distance) - 0.012
            image = _over(image, line, np.float32(0.25), pixel, 0.7 * look.outline)
    return image


def _pose(x: Array, y: Array, look: Look, rng: np.random.RandomState) -> _Frame:
    """Sample position, size, direction and deformation of one individual."""
    scale = rng.uniform(*look.scale)
    angle = math.radians(rng.uniform(-look.rotation, look.rotation))
    facing = 1 if rng.rand() < 0.5 else -1
    x = (x - rng.uniform(-0.16, 0.16)) / scale
    y = (y - rng.uniform(-0.22, 0.10)) / scale
    cos, sin = math.cos(angle), math.sin(angle)
    u = facing * (cos * x + sin * y) / rng.uniform(0.9, 1.1)
    v = (cos * y - sin * x) / rng.uniform(0.9, 1.1)
    phases = [rng.uniform(0, _TURN) for _ in range(3)]
    warp = look.warp
    bend = warp * np.sin(3.2 * v + phases[0]) + 0.5 * warp * np.sin(7 * v + phases[1])
    return _Frame(u + bend, v + warp * np.sin(3.2 * u + phases[2]), 2.0 / len(x) / scale)


def _draw(
    image: Array, creature: Creature, frame: _Frame, look: Look, rng: np.random.RandomState
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Paint feet, tail, ornament, body and eye from back to front."""
    u, v, pixel = frame
    coat, marking = _coat(creature, look, rng)
    limb = np.clip(coat * rng.uniform(0.6, 0.85), 0, 1)
    light = 1 + 0.25 * (0.6 * v + rng.uniform(-0.5, 0.5) * u)
    size = rng.uniform(0.88, 1.12)

    def paint(image: Array, distance: Array, color: Array) -> Array:
        image = _over(image, distance, color, pixel, look.fill)
        if look.outline:
            line = np.abs(distance) - 0.02
            image = _over(image, line, np.float32(0.15), pixel, look.outline)
        return image

    if rng.randint(3):
        image = paint(image, shapes.feet(creature.genus, u, v), limb * 0.8)
    tail = ornament = np.full_like(u, np.inf)
    if creature.tail != "none":
        tail = shapes.tail(creature.tail, creature.genus, u, v, size)
        image = paint(image, tail, limb)
    if creature.ornament != "none":
        ornament = shapes.ornament(creature.ornament, creature.genus, u, v, size)
        image = paint(image, ornament, limb)

    body = shapes.body(creature.genus, u, v)
    if creature.pattern != "plain":
        where = shapes.pattern(
            creature.pattern, u, v, rng.uniform(0.85, 1.15), rng.uniform(0, _TURN)
        )
        coat = np.where(where[..., None], marking, coat)
    image = paint(image, body, coat * light[..., None])

    x, y = shapes.TOP[creature.genus]
    eye = (x + 0.12, y - 0.24)
    image = _over(image, shapes.circle(u, v, *eye, 0.10), np.float32(0.97), pixel, 1.0)
    pupil = shapes.circle(u, v, eye[0] + 0.02, eye[1], 0.05)
    image = _over(image, pupil, np.float32(0.05), pixel, 1.0)
    behind = body > 0
    return image, (~behind, behind & (ornament < 0), behind & (tail < 0))


def _coat(creature: Creature, look: Look, rng: np.random.RandomState) -> tuple[Array, Array]:
    """Sample the colors of an individual and of its pattern, which is light or dark."""
    hue, saturation, value = _COLORS[creature.color]
    hue += rng.randn() * look.hue_noise
    if rng.rand() < look.hue_share:
        hue += look.hue_shift
    saturation *= rng.uniform(0.85, 1.1) * look.saturation
    coat = _rgb(hue, saturation, value * rng.uniform(0.85, 1.12))
    marking = np.full(3, 0.95, np.float32) if rng.rand() < 0.5 else coat * 0.25
    return coat, coat + look.pattern_contrast * (marking - coat)


def _photograph(image: Array, look: Look, rng: np.random.RandomState) -> Array:
    """Apply uneven light and the look's camera effects; return uint8."""
    size = len(image)
    x, y = _grid(size)
    light = 1 + rng.uniform(-0.22, 0.22) * x + rng.uniform(-0.22, 0.22) * y
    image = image * (light * rng.uniform(0.82, 1.15))[..., None] + rng.uniform(-0.04, 0.04)
    if look.darkness:
        image = image * (1 - look.darkness * rng.uniform(0.8, 1.05)) * _NIGHT
    if look.levels:
        grain = _smooth_noise(rng, size, 16)[..., None] * 0.07
        image = np.round((image + grain) * look.levels) / look.levels
    for _ in range(look.blur):
        edge = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        cross = edge[:-2, 1:-1] + edge[2:, 1:-1] + edge[1:-1, :-2] + edge[1:-1, 2:]
        image = (cross + 2 * image) / 6
    image = image + _normal(rng, size, size, 1) * look.noise
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)
