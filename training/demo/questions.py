"""Questions that a scene answers: every question type of `words.QUESTIONS`, with its one right answer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .scenes import Scene, Thing
from .words import QUESTIONS


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its answer; `type` is a key of `words.QUESTIONS`."""

    type: str
    text: str
    answer: str


TYPES_BY_KIND: dict[str, tuple[str, ...]] = {
    "image": (
        "shape_color", "digit_color", "color_shape", "color_digit", "first_digit", "last_digit", "read_digits",
    ),
    "images": ("shape_color", "digit_color"),
    "chart": ("bar_value", "tallest_bar"),
    "video": (
        "shape_color", "digit_color", "color_shape", "color_digit", "earliest_digit", "latest_digit",
    ),
}  # fmt: skip
"""Kind of scene -> the question types it is asked."""


def _ask(question_type: str, answer: str, **words: object) -> Question:
    return Question(question_type, QUESTIONS[question_type].format(**words), answer)


def _unique(things: list[Thing]) -> list[Thing]:
    """Those that can be asked for by name: several pictures may show the same thing."""
    counts = Counter(thing.name for thing in things)
    return [thing for thing in things if counts[thing.name] == 1]


def _about_shapes(scene: Scene) -> list[Question]:
    return [_ask("shape_color", thing.color, shape=thing.name) for thing in _unique(scene.shapes)]


def _about_colors(things: list[Thing], question_type: str) -> list[Question]:
    return [_ask(question_type, thing.name, color=thing.color) for thing in things]


def _about_digits(scene: Scene) -> list[Question]:
    digits = scene.digits
    questions = [_ask("digit_color", thing.color, digit=thing.name) for thing in _unique(digits)]
    if scene.size.kind == "video":
        questions += [_ask("earliest_digit", digits[0].name), _ask("latest_digit", digits[-1].name)]
    elif scene.size.kind == "image":
        questions += [
            _ask("first_digit", digits[0].name),
            _ask("last_digit", digits[-1].name),
            _ask("read_digits", "".join(thing.name for thing in digits)),
        ]
    return questions


def _about_bars(scene: Scene) -> list[Question]:
    tallest = max(scene.bars, key=lambda bar: bar.height)
    return [
        *[_ask("bar_value", str(bar.height), color=bar.color) for bar in scene.bars],
        _ask("tallest_bar", tallest.color),
    ]


def all_questions(scene: Scene) -> dict[str, list[Question]]:
    """Every question of every type that this kind of scene is asked."""
    if scene.size.kind == "chart":
        found = _about_bars(scene)
    else:
        found = _about_shapes(scene) + _about_digits(scene)
        if scene.size.kind != "images":
            found += _about_colors(scene.shapes, "color_shape") + _about_colors(scene.digits, "color_digit")
    types = TYPES_BY_KIND[scene.size.kind]
    by_type = {question_type: [q for q in found if q.type == question_type] for question_type in types}
    return {question_type: questions for question_type, questions in by_type.items() if questions}


def choose_questions(
    rng: np.random.Generator, scene: Scene, count: int, emphasis: Mapping[str, int] | None = None
) -> list[Question]:
    """`count` questions with the types taken in turn, so that each type is asked equally often.

    Args:
        rng: Chooses the order.
        scene: What is asked about.
        count: Number of questions.
        emphasis: How often a type comes in each turn, where that is not once; 0 leaves it out.
    """
    pools = {kind: [pool[i] for i in rng.permutation(len(pool))] for kind, pool in all_questions(scene).items()}
    turns = [name for name in pools for _ in range((emphasis or {}).get(name, 1))]
    types = [turns[index] for index in rng.permutation(len(turns))]
    asked: Counter[str] = Counter()
    chosen: list[Question] = []
    for turn in range(count):
        name = types[turn % len(types)]
        chosen.append(pools[name][asked[name] % len(pools[name])])
        asked[name] += 1
    return chosen
