"""What a picture or video shows, drawn at random from a seed: coloured shapes and digits on a grid, or a bar chart."""

from dataclasses import dataclass

import numpy as np

from .words import COLORS, DIGITS, SHAPES


@dataclass(frozen=True, slots=True)
class Thing:
    """One drawn object: where it is, and (in a video) from which to which temporal patch it is seen."""

    name: str
    color: str
    row: int
    col: int
    picture: int = 0
    first_step: int = 0
    last_step: int = 0
    height: int = 1
    """Cells that a bar fills upwards from `row`; 1 for everything else."""


@dataclass(frozen=True, slots=True)
class SceneSize:
    """How much there is to see: `num_pictures` images, or one video of `num_steps` temporal patches."""

    kind: str
    grid: int
    num_pictures: int = 1
    num_steps: int = 1

    @property
    def num_visual_tokens(self) -> int:
        """Visual tokens in the prompt: one for each grid cell."""
        return self.grid**2 * self.num_pictures * self.num_steps


@dataclass(frozen=True, slots=True)
class Scene:
    """A size and everything in it."""

    size: SceneSize
    things: tuple[Thing, ...]

    @property
    def shapes(self) -> list[Thing]:
        """The things that are shapes."""
        return [thing for thing in self.things if thing.name in SHAPES]

    @property
    def bars(self) -> list[Thing]:
        """The things that are bars of a chart."""
        return [thing for thing in self.things if thing.name == "bar"]

    @property
    def digits(self) -> list[Thing]:
        """The things that are digits, from left to right; in a video in the order they appear."""
        found = [thing for thing in self.things if thing.name in DIGITS]
        return sorted(found, key=lambda thing: (thing.picture, thing.first_step, thing.col))


def draw_scene(rng: np.random.Generator, size: SceneSize) -> Scene:
    """A random scene of a given size."""
    if size.kind == "chart":
        return Scene(size, tuple(_bars(rng, size.grid)))
    if size.kind == "video":
        return Scene(size, tuple(_moving_things(rng, size)))
    things: list[Thing] = []
    for picture in range(size.num_pictures):
        crowded = size.num_pictures == 1
        num_shapes = int(rng.integers(4, 7) if crowded else rng.integers(3, 5))
        num_digits = int(rng.integers(3, 6) if crowded else rng.integers(1, 4))
        things += _still_things(rng, size.grid, picture, num_shapes, num_digits)
    return Scene(size, tuple(things))


def _choose(rng: np.random.Generator, names, count: int) -> list[str]:
    names = list(names)
    return [names[index] for index in rng.permutation(len(names))[:count]]


def _spread_columns(rng: np.random.Generator, grid: int, count: int) -> list[int]:
    """Columns for digits that are read from left to right: far enough apart to be told apart on a large grid."""
    gap = max(1, grid // 8)
    slack = grid - 1 - (count - 1) * gap
    starts = np.sort(rng.integers(0, slack + 1, size=count))
    return [int(start) + index * gap for index, start in enumerate(starts)]


def _still_things(rng, grid: int, picture: int, num_shapes: int, num_digits: int) -> list[Thing]:
    """Shapes of different colours and digits of different colours, in different cells; no shape or digit twice."""
    columns = rng.permutation(_spread_columns(rng, grid, num_digits))
    digit_cells = [int(rng.integers(grid)) * grid + int(col) for col in columns]
    free = [cell for cell in rng.permutation(grid * grid).tolist() if cell not in digit_cells]
    names = _choose(rng, SHAPES, num_shapes) + _choose(rng, DIGITS, num_digits)
    colors = _choose(rng, COLORS, num_shapes) + _choose(rng, COLORS, num_digits)
    cells = free[:num_shapes] + digit_cells
    return [
        Thing(name, color, cell // grid, cell % grid, picture)
        for name, color, cell in zip(names, colors, cells, strict=True)
    ]


def _moving_things(rng: np.random.Generator, size: SceneSize) -> list[Thing]:
    """Shapes that stay for a while, and digits that flash up one after the other, each for one temporal patch."""
    num_shapes = int(rng.integers(3, 6))
    num_digits = int(rng.integers(2, min(size.num_steps, 4) + 1))
    still = _still_things(rng, size.grid, 0, num_shapes, 0)
    digit_steps = np.sort(rng.permutation(size.num_steps)[:num_digits]).tolist()
    taken = {(thing.row, thing.col) for thing in still}
    free = [divmod(int(cell), size.grid) for cell in rng.permutation(size.grid**2)]
    free = [cell for cell in free if cell not in taken]
    things = []
    for thing in still:
        first, last = sorted(rng.integers(0, size.num_steps, size=2).tolist())
        things.append(Thing(thing.name, thing.color, thing.row, thing.col, 0, first, last))
    digits, colors = _choose(rng, DIGITS, num_digits), _choose(rng, COLORS, num_digits)
    for digit, color, step, (row, col) in zip(digits, colors, digit_steps, free, strict=False):
        things.append(Thing(digit, color, row, col, 0, step, step))
    return things


def _bars(rng: np.random.Generator, grid: int) -> list[Thing]:
    """Bars of different colours and heights, each with its value (its height in cells) in its own colour above it."""
    num_bars = int(rng.integers(3, 6))
    heights = rng.permutation(np.arange(1, min(grid - 1, 9) + 1))[:num_bars]
    columns = _choose(rng, range(grid), num_bars)
    colors = _choose(rng, COLORS, num_bars)
    things = []
    for color, column, height in zip(colors, columns, heights.tolist(), strict=True):
        things.append(Thing("bar", color, grid - 1, column, height=height))
        things.append(Thing(str(height), color, grid - 1 - height, column))
    return things
