"""Answers a question from pixels and wording alone: a check on the generator that shares no scene with it."""

import re

import numpy as np

from training.demo.geometry import CELL_SIZE
from training.demo.glyphs import GLYPHS
from training.demo.words import COLORS, DIGITS, SHAPES

_SHIFTS = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]


def _read_cell(cell: np.ndarray, background: np.ndarray) -> tuple[str, str] | None:
    """(name, colour) of what is drawn in a cell, or None."""
    drawn = (abs(cell - background) > 50).any(axis=-1)
    if drawn.sum() < 20:
        return None
    mean = cell[drawn].mean(axis=0)
    color = min(COLORS, key=lambda name: abs(mean - np.array(COLORS[name])).sum())

    def overlap(name: str) -> float:
        masks = [np.roll(GLYPHS[name], shift, axis=(0, 1)) for shift in _SHIFTS]
        return max((mask & drawn).sum() / (mask | drawn).sum() for mask in masks)

    return max(GLYPHS, key=overlap), color


def read_frames(frames: np.ndarray) -> list[tuple[int, int, int, str, str]]:
    """Everything seen, as (frame, row, col, name, colour)."""
    found = []
    for index, frame in enumerate(frames.astype(np.int64)):
        background = np.median(frame.reshape(-1, 3), axis=0)
        for row in range(frame.shape[0] // CELL_SIZE):
            for col in range(frame.shape[1] // CELL_SIZE):
                top, left = row * CELL_SIZE, col * CELL_SIZE
                seen = _read_cell(frame[top : top + CELL_SIZE, left : left + CELL_SIZE], background)
                if seen:
                    found.append((index, row, col, *seen))
    return found


def _only(values) -> str:
    (value,) = set(values)
    return value


def answer_from_seen(seen: list[tuple[int, int, int, str, str]], question: str) -> str:
    """The answer to a question of the demo task, from what `read_frames` found."""
    shapes = [thing for thing in seen if thing[3] in SHAPES]
    digits = [thing for thing in seen if thing[3] in DIGITS]
    if match := re.fullmatch(r"What color is the (?:digit )?(\w+)\?", question):
        return _only(color for *_, name, color in seen if name == match[1])
    if match := re.fullmatch(r"Which (shape|digit) is (\w+)\?", question):
        return _only(name for *_, name, color in (shapes if match[1] == "shape" else digits) if color == match[2])
    if match := re.fullmatch(r"What is the value of the (\w+) bar\?", question):
        return str(sum(name.startswith("bar") and color == match[1] for *_, name, color in seen))
    if question == "Which bar is the tallest?":
        return min((thing for thing in seen if thing[3] == "bar top"), key=lambda thing: thing[1])[4]
    by_column = [name for _, _, _, name, _ in sorted(digits, key=lambda thing: thing[2])]
    by_time = list(dict.fromkeys(name for _, _, _, name, _ in digits))
    names = {
        "What is the leftmost digit?": by_column[:1],
        "What is the rightmost digit?": by_column[-1:],
        "Read the digits from left to right.": by_column,
        "Which digit appears first?": by_time[:1],
        "Which digit appears last?": by_time[-1:],
    }[question]
    return "".join(names)
