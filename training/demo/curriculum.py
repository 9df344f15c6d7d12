"""Which scenes a training step sees: small ones first, then every size of the task."""

import numpy as np
from transformers import Qwen2Tokenizer

from .packing import Batch, pack
from .scenes import SceneSize
from .streams import SIZES, TRAINING_STREAM, make_example

WARMUP_SHARE = 0.3
"""The first part of training, on at most `WARMUP_TOKENS` visual tokens: learn to look up, then to scale."""
WARMUP_TOKENS = 256

EMPHASIS = {"read_digits": 2, "latest_digit": 2, "color_shape": 2, "color_digit": 2}
"""Types that take longest to learn are asked more often."""

TOKENS_PER_STEP = 1024
QUESTIONS_PER_STEP = 128
SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer in one word.")
SYSTEM_PROMPT_SHARE = 0.2

_STEP_STREAM = 2
"""Random stream for what a step is made of; streams 0 and 1 are scenes."""


def scenes_per_step(size: SceneSize) -> tuple[int, int]:
    """(scenes, questions a scene) that make a step of about constant work."""
    num_scenes = max(1, min(16, TOKENS_PER_STEP // size.num_visual_tokens))
    return num_scenes, min(24, max(8, QUESTIONS_PER_STEP // num_scenes))


def training_batch(tokenizer: Qwen2Tokenizer, seed: int, step: int, num_steps: int) -> Batch:
    """The batch of a step: a function of seed and step alone."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_STEP_STREAM, step))))
    shares = SIZES
    if step < WARMUP_SHARE * num_steps:
        shares = {size: share for size, share in SIZES.items() if size.num_visual_tokens <= WARMUP_TOKENS}
    weights = np.cumsum(list(shares.values()))
    size = list(shares)[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]
    num_scenes, num_questions = scenes_per_step(size)
    first = step * 16
    examples = [
        make_example(seed, TRAINING_STREAM, first + n, size, num_questions, EMPHASIS) for n in range(num_scenes)
    ]
    systems = [
        SYSTEM_PROMPTS[int(rng.integers(len(SYSTEM_PROMPTS)))] if rng.random() < SYSTEM_PROMPT_SHARE else None
        for _ in examples
    ]
    return pack(tokenizer, examples, systems)
