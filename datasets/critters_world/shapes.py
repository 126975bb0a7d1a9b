"""Signed distances of the creatures' bodies, ornaments and tails.

Coordinates: u to the right (where the creature faces) and v up, with the body within about
[-0.9, 0.9]. Every function maps coordinate arrays u, v to an array of signed distances to the
outline: negative inside, positive outside.
Pattern functions return a boolean array instead: True where the second color is visible.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray

# Attachment points (u, v) of ornament and tail for each genus.
TOP = {
    "wug": (0.12, 0.58),
    "dax": (0.30, 0.40),
    "fep": (0.15, 0.52),
    "blick": (0.0, 0.50),
    "toma": (0.38, 0.52),
    "zorp": (0.05, 0.60),
}
REAR = {
    "wug": (-0.58, -0.12),
    "dax": (-0.80, -0.05),
    "fep": (-0.52, -0.15),
    "blick": (-0.48, -0.32),
    "toma": (-0.72, -0.22),
    "zorp": (-0.55, -0.05),
}


def circle(u: Array, v: Array, x: float, y: float, radius: float) -> Array:
    return np.sqrt((u - x) ** 2 + (v - y) ** 2) - radius


def ellipse(u: Array, v: Array, x: float, y: float, a: float, b: float) -> Array:
    """Return the distance to an ellipse with half axes a and b; exact on the outline only."""
    return (np.sqrt(((u - x) / a) ** 2 + ((v - y) / b) ** 2) - 1) * min(a, b)


def stroke(
    u: Array, v: Array, start: tuple[float, float], end: tuple[float, float], w0: float, w1: float
) -> Array:
    """Return the distance to a line with round ends and half widths w0 (start) to w1 (end)."""
    x, y = start
    dx, dy = end[0] - x, end[1] - y
    along = np.clip(((u - x) * dx + (v - y) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.sqrt((u - x - along * dx) ** 2 + (v - y - along * dy) ** 2) - (w0 + (w1 - w0) * along)


def _fep(u: Array, v: Array) -> Array:
    """A rounded box."""
    x, y = np.abs(u) - 0.44, np.abs(v) - 0.44
    outside = np.sqrt(np.maximum(x, 0) ** 2 + np.maximum(y, 0) ** 2)
    return outside + np.minimum(np.maximum(x, y), 0) - 0.12


def _blick(u: Array, v: Array) -> Array:
    """A triangle."""
    sides = 0.87 * np.abs(u) + 0.5 * v - 0.36
    return np.maximum(np.maximum(sides, -v - 0.50), v - 0.62) - 0.05


_BODIES: dict[str, Callable[[Array, Array], Array]] = {
    "wug": lambda u, v: circle(u, v, 0, 0, 0.62),
    "dax": lambda u, v: ellipse(u, v, 0, 0, 0.86, 0.46),
    "fep": _fep,
    "blick": _blick,
    "toma": lambda u, v: np.minimum(
        circle(u, v, -0.32, -0.12, 0.46), circle(u, v, 0.38, 0.18, 0.36)
    ),
    "zorp": lambda u, v: np.abs(u) * 0.72 + np.abs(v) * 0.69 - 0.50,
}


def body(genus: str, u: Array, v: Array) -> Array:
    return _BODIES[genus](u, v)


def _ears(u: Array, v: Array, x: float, y: float, k: float) -> Array:
    left = ellipse(u, v, x - 0.24, y + 0.16 * k, 0.12, 0.28 * k)
    return np.minimum(left, ellipse(u, v, x + 0.24, y + 0.16 * k, 0.12, 0.28 * k))


def _antennae(u: Array, v: Array, x: float, y: float, k: float) -> Array:
    d = circle(u, v, x - 0.30, y + 0.45 * k, 0.10)
    d = np.minimum(d, circle(u, v, x + 0.30, y + 0.45 * k, 0.10))
    for side in (-1, 1):
        tip = (x + side * 0.30, y + 0.42 * k)
        d = np.minimum(d, stroke(u, v, (x + side * 0.08, y - 0.1), tip, 0.035, 0.035))
    return d


def _crest(u: Array, v: Array, x: float, y: float, k: float) -> Array:
    d = stroke(u, v, (x, y - 0.1), (x, y + 0.40 * k), 0.12, 0.03)
    for side in (-1, 1):
        tip = (x + side * 0.34, y + 0.28 * k)
        d = np.minimum(d, stroke(u, v, (x + side * 0.14, y - 0.12), tip, 0.11, 0.03))
    return d


_Part = Callable[[Array, Array, float, float, float], Array]
_ORNAMENTS: dict[str, _Part] = {
    "horn": lambda u, v, x, y, k: stroke(
        u, v, (x, y - 0.08), (x + 0.16, y + 0.56 * k), 0.15, 0.015
    ),
    "ears": _ears,
    "antennae": _antennae,
    "crest": _crest,
}


def ornament(kind: str, genus: str, u: Array, v: Array, size: float) -> Array:
    """Return the distance to an ornament on the head of relative size `size` (about 1)."""
    return _ORNAMENTS[kind](u, v, *TOP[genus], size)


def _forked(u: Array, v: Array, x: float, y: float, k: float) -> Array:
    up = stroke(u, v, (x + 0.1, y), (x - 0.44 * k, y + 0.36), 0.065, 0.065)
    return np.minimum(up, stroke(u, v, (x + 0.1, y), (x - 0.44 * k, y - 0.30), 0.065, 0.065))


def _club(u: Array, v: Array, x: float, y: float, k: float) -> Array:
    stem = stroke(u, v, (x + 0.1, y), (x - 0.34 * k, y), 0.055, 0.055)
    return np.minimum(stem, circle(u, v, x - 0.42 * k, y, 0.19))


def _fan(u: Array, v: Array, x: float, y: float, k: float) -> Array:
    back = x + 0.1 - u
    wedge = np.abs(v - y) - 0.10 - 0.62 * np.maximum(back, 0)
    return np.maximum(np.maximum(wedge, -back), back - 0.55 * k)


def _curly(u: Array, v: Array, x: float, y: float, k: float) -> Array:
    ring = np.abs(circle(u, v, x - 0.24 * k, y + 0.12, 0.21)) - 0.055
    return np.minimum(ring, stroke(u, v, (x + 0.1, y), (x - 0.06, y), 0.055, 0.055))


_TAILS: dict[str, _Part] = {
    "long": lambda u, v, x, y, k: stroke(
        u, v, (x + 0.1, y), (x - 0.62 * k, y + 0.10), 0.065, 0.065
    ),
    "forked": _forked,
    "club": _club,
    "fan": _fan,
    "curly": _curly,
}


def tail(kind: str, genus: str, u: Array, v: Array, size: float) -> Array:
    """Return the distance to a tail of relative size `size` (about 1)."""
    return _TAILS[kind](u, v, *REAR[genus], size)


def feet(genus: str, u: Array, v: Array) -> Array:
    x = REAR[genus][0] * 0.45
    back = stroke(u, v, (x, -0.35), (x, -0.72), 0.05, 0.05)
    return np.minimum(back, stroke(u, v, (-x, -0.30), (-x, -0.72), 0.05, 0.05))


def _spots(u: Array, v: Array, frequency: float, phase: float) -> Array:
    row = v * 2.6 * frequency
    column = u * 2.6 * frequency + phase + 0.5 * (np.floor(row) % 2)
    x, y = column - np.floor(column) - 0.5, row - np.floor(row) - 0.5
    return x * x + y * y < 0.105


_PATTERNS: dict[str, Callable[[Array, Array, float, float], Array]] = {
    "striped": lambda u, v, f, phase: np.sin(u * 9.5 * f + phase) > 0.05,
    "spotted": _spots,
    "checkered": lambda u, v, f, phase: (
        np.sin(u * 7.0 * f + phase) * np.sin(v * 7.0 * f + phase) > 0
    ),
    "ringed": lambda u, v, f, phase: np.sin(np.sqrt(u * u + v * v) * 13 * f + 0.6) > 0.05,
    "belted": lambda u, v, f, phase: np.abs(v + 0.02) < 0.17,
}


def pattern(kind: str, u: Array, v: Array, frequency: float, phase: float) -> Array:
    """Return where the second color is visible; frequency is about 1, phase in radians."""
    return _PATTERNS[kind](u, v, frequency, phase)
