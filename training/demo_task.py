"""Questions of the demo generator as rows for GRPO and for evaluation; pictures are drawn when a row is asked for."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from datasets import Dataset
from PIL import Image

from .demo.scenes import SceneSize
from .demo.streams import SIZES, TRAINING_STREAM, Example, held_out_example, make_example

FIRST_TRAINING_INDEX = 1 << 24
"""Scenes from here on: those before it may have been seen when the demo model was made."""

_SIZE_STREAM = 3
"""Random stream for the sizes of training rows; `demo/streams.py` and `demo/curriculum.py` take streams 0 to 2."""


def row_of(example: Example, source: str) -> dict:
    """An example's first question as a row."""
    question, is_video = example.questions[0], example.scene.size.kind == "video"
    images = None if is_video else [Image.fromarray(frame) for frame in example.frames]
    media = [{"type": "video"}] if is_video else [{"type": "image"} for _ in images]
    return {
        "prompt": [{"role": "user", "content": [*media, {"type": "text", "text": question.text}]}],
        "images": images,
        "videos": [example.frames] if is_video else None,
        "solution": question.answer,
        "problem_type": "exact",
        "question_type": question.type,
        "source": source,
    }


def training_size(seed: int, block: int) -> SceneSize:
    """Size of a block of training rows, each as likely as any other, as in the held-out set."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_SIZE_STREAM, block))))
    return list(SIZES)[int(rng.integers(len(SIZES)))]


def training_rows(seed: int, num_rows: int, prompts_per_size: int = 1) -> Dataset:
    """Training rows: row i depends on `seed`, `prompts_per_size` and i alone.

    Args:
        seed: of scenes and sizes.
        num_rows: how many there are.
        prompts_per_size: rows in a row with media of one size, so that rollouts made together need little padding.
    """

    def make(index: int) -> dict:
        size = training_size(seed, index // prompts_per_size)
        example = make_example(seed, TRAINING_STREAM, FIRST_TRAINING_INDEX + index, size, num_questions=1)
        return row_of(example, f"demo:{seed}:{index}")

    return lazy_rows(make, num_rows)


def held_out_rows(seed: int, num_rows: int) -> Dataset:
    """Rows of the held-out set of a seed, the same questions as `python -m training.demo_data` writes."""
    return lazy_rows(lambda index: row_of(held_out_example(seed, index), f"demo-held-out:{seed}:{index}"), num_rows)


def lazy_rows(make: Callable[[int], dict], num_rows: int) -> Dataset:
    """A dataset whose row i is `make(i)`, called when the row is asked for."""
    # The rows of a group share one object, and with it the work on its pictures.
    make = lru_cache(maxsize=64)(make)

    def transform(batch: dict) -> dict:
        rows = [make(index) for index in batch["index"]]
        return {name: [row[name] for row in rows] for name in rows[0]}

    return Dataset.from_dict({"index": list(range(num_rows))}).with_transform(transform)
