"""Where random numbers come from, so that every scene is the same everywhere and held-out scenes are never trained on.

Each scene has its own generator, keyed by (seed, stream, index): it depends on neither the number of scenes asked for,
nor on threads, nor on earlier draws. Training and held-out scenes are two streams of `numpy.random.SeedSequence`'s
spawn tree, which are disjoint for every pair of seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .media import render
from .questions import Question, all_questions, choose_questions
from .scenes import Scene, SceneSize, draw_scene

TRAINING_STREAM = 0
HELD_OUT_STREAM = 1

SIZES: dict[SceneSize, float] = {
    SceneSize("image", 8): 2.0,
    SceneSize("image", 12): 1.2,
    SceneSize("image", 16): 1.0,
    SceneSize("image", 24): 0.7,
    SceneSize("image", 32): 0.5,
    SceneSize("images", 8, num_pictures=2): 1.6,
    SceneSize("images", 8, num_pictures=3): 1.2,
    SceneSize("images", 8, num_pictures=4): 1.0,
    SceneSize("images", 12, num_pictures=3): 0.4,
    SceneSize("images", 16, num_pictures=4): 0.3,
    SceneSize("chart", 8): 0.7,
    SceneSize("chart", 12): 0.5,
    SceneSize("video", 8, num_steps=2): 1.0,
    SceneSize("video", 8, num_steps=4): 1.4,
    SceneSize("video", 8, num_steps=8): 1.4,
    SceneSize("video", 12, num_steps=4): 1.4,
    SceneSize("video", 16, num_steps=4): 0.8,
}
"""Every size of the task with its share in training; the held-out set takes all sizes equally often."""


@dataclass(frozen=True, slots=True)
class Example:
    """One scene, its pixels `[num_frames, height, width, 3]` (uint8 RGB) and questions about it."""

    scene: Scene
    frames: np.ndarray
    questions: list[Question]


def scene_generator(seed: int, stream: int, index: int) -> np.random.Generator:
    """The generator of one scene."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, index))))


def make_example(
    seed: int, stream: int, index: int, size: SceneSize, num_questions: int, emphasis: Mapping[str, int] | None = None
) -> Example:
    """Draw scene `index` of a stream, at a given size; `emphasis` as in `choose_questions`."""
    rng = scene_generator(seed, stream, index)
    scene = draw_scene(rng, size)
    while not all_questions(scene):  # rarely, several pictures show nothing that is there only once
        scene = draw_scene(rng, size)
    frames = render(rng, scene)
    return Example(scene, frames, choose_questions(rng, scene, num_questions, emphasis))


def held_out_example(seed: int, index: int, num_questions: int = 1) -> Example:
    """Row `index` of the held-out set of `seed`: sizes in turn."""
    sizes = list(SIZES)
    return make_example(seed, HELD_OUT_STREAM, index, sizes[index % len(sizes)], num_questions)
