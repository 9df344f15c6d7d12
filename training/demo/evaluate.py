"""Held-out accuracy of the demo model, by media, question type and scene size."""

from collections import defaultdict

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from .forward import exact_matches, packed_forward
from .packing import pack
from .scenes import SceneSize
from .streams import SIZES, held_out_example

QUESTIONS_PER_SCENE = 8


def size_name(size: SceneSize) -> str:
    """A short name such as `images 3x 8x8` or `video 8 frames 12x12`."""
    grid = f"{size.grid}x{size.grid}"
    if size.kind == "video":
        return f"video {2 * size.num_steps} frames {grid}"
    return f"images {size.num_pictures}x {grid}" if size.num_pictures > 1 else f"{size.kind} {grid}"


@torch.no_grad()
def held_out_accuracy(
    model: Qwen2_5_VLForConditionalGeneration, tokenizer: Qwen2Tokenizer, seed: int, questions_per_size: int
) -> dict[str, dict]:
    """Exact-match accuracy of greedy decoding on held-out scenes.

    Args:
        model: The demo model.
        tokenizer: Its tokenizer.
        seed: Seed of the held-out scenes.
        questions_per_size: Questions for each size of `streams.SIZES`; rounded up to whole scenes of 8 questions.

    Returns:
        `accuracy` and `num_questions` under `image`, `video`, `types` (by media and type) and `sizes`.
    """
    results: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    scenes_each = -(-questions_per_size // QUESTIONS_PER_SCENE)
    for index in range(scenes_each * len(SIZES)):
        example = held_out_example(seed, index, QUESTIONS_PER_SCENE)
        size = example.scene.size
        batch = pack(tokenizer, [example])
        correct = exact_matches(packed_forward(model, batch).logits, batch).tolist()
        media = "video" if size.kind == "video" else "image"
        for question, right in zip(batch.questions, correct, strict=True):
            results[(media,)].append(right)
            results["types", media, question.type].append(right)
            results["sizes", size_name(size)].append(right)
    return _as_tree(results)


def _as_tree(results: dict[tuple[str, ...], list[bool]]) -> dict[str, dict]:
    tree: dict[str, dict] = {}
    for path, right in results.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = {"accuracy": round(sum(right) / len(right), 4), "num_questions": len(right)}
    for size in SIZES:
        tree["sizes"][size_name(size)]["num_visual_tokens"] = size.num_visual_tokens
    return tree
