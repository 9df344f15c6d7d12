"""The drawings that fill one grid cell, as exact boolean masks (integer arithmetic only, so equal on every machine)."""

import numpy as np

from .geometry import CELL_SIZE
from .words import DIGITS, SHAPES

# Rows are columns of the classic 5x7 font: five bytes a digit, lowest bit on top.
_DIGIT_COLUMNS = (
    (0x3E, 0x51, 0x49, 0x45, 0x3E), (0x00, 0x42, 0x7F, 0x40, 0x00), (0x42, 0x61, 0x51, 0x49, 0x46),
    (0x21, 0x41, 0x45, 0x4B, 0x31), (0x18, 0x14, 0x12, 0x7F, 0x10), (0x27, 0x45, 0x45, 0x45, 0x39),
    (0x3C, 0x4A, 0x49, 0x49, 0x30), (0x01, 0x71, 0x09, 0x05, 0x03), (0x36, 0x49, 0x49, 0x49, 0x36),
    (0x06, 0x49, 0x49, 0x29, 0x1E),
)  # fmt: skip
_DIGIT_SCALE = 3
_PENTAGRAM = ((0, -21), (12, 17), (-20, -6), (20, -6), (-12, 17))


def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    """Twice the pixel offsets from the cell's centre: odd integers, x to the right and y down."""
    axis = 2 * np.arange(CELL_SIZE) - (CELL_SIZE - 1)
    return np.meshgrid(axis, axis, indexing="xy")


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A point is in a pentagram when it is on the inner side of at least four of its five lines."""
    inner_sides = np.zeros(x.shape, dtype=np.int64)
    for (x0, y0), (x1, y1) in zip(_PENTAGRAM, _PENTAGRAM[1:] + _PENTAGRAM[:1], strict=True):
        side = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        inner_sides += np.sign(side) == np.sign(-(x1 - x0) * y0 + (y1 - y0) * x0)
    return inner_sides >= 4


def _digit(value: int) -> np.ndarray:
    bits = np.array([[column >> row & 1 for column in _DIGIT_COLUMNS[value]] for row in range(7)], dtype=bool)
    drawn = bits.repeat(_DIGIT_SCALE, axis=0).repeat(_DIGIT_SCALE, axis=1)
    cell = np.zeros((CELL_SIZE, CELL_SIZE), dtype=bool)
    top, left = (CELL_SIZE - drawn.shape[0]) // 2, (CELL_SIZE - drawn.shape[1]) // 2
    cell[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return cell


def _draw_all() -> dict[str, np.ndarray]:
    x, y = _coordinates()
    radius = x**2 + y**2
    masks = {
        "circle": radius <= 21**2,
        "square": np.maximum(abs(x), abs(y)) <= 18,
        "triangle": (2 * abs(x) <= y + 21) & (y <= 17),
        "star": _star(x, y),
        "cross": np.minimum(abs(x), abs(y)) <= 6,
        "diamond": abs(x) + abs(y) <= 23,
        "ring": (radius <= 21**2) & (radius >= 12**2),
        "heart": ((abs(x) - 9) ** 2 + (y + 6) ** 2 <= 10**2) | ((5 * abs(x) <= 4 * (20 - y)) & (y >= -4)),
        "bar": abs(x) <= 19,
        "bar top": (abs(x) <= 19) & (y >= -15),
    }
    masks["cross"] &= np.maximum(abs(x), abs(y)) <= 21
    return masks | {digit: _digit(int(digit)) for digit in DIGITS}


GLYPHS: dict[str, np.ndarray] = _draw_all()
"""Name -> [CELL_SIZE, CELL_SIZE] bool mask."""

GLYPH_NAMES: tuple[str, ...] = (*SHAPES, *DIGITS, "bar", "bar top")
"""The order that cell labels count in, from 1; 0 is an empty cell."""
