"""The kinds of real prompts that measurements take, by name. What they show is drawn in `benchmarks.engine.prompts`."""

from training.demo.scenes import SceneSize

# A text and the marks around pictures take at most so many tokens beside the visual ones.
MAX_TEXT_TOKENS = 48

# Several sizes are taken in turn.
SCENES: dict[str, tuple[SceneSize, ...]] = {
    "pictures": (SceneSize("image", 32), SceneSize("images", 16, num_pictures=4)),
    "video": (SceneSize("video", 16, num_steps=4),),
    "picture 8x8": (SceneSize("image", 8),),
    "picture 16x16": (SceneSize("image", 16),),
    "picture 32x32": (SceneSize("image", 32),),
    "2 pictures 32x32": (SceneSize("images", 32, num_pictures=2),),
    "4 pictures 32x32": (SceneSize("images", 32, num_pictures=4),),
}
# One size each: 64 to 4,096 visual tokens.
CONTEXTS = tuple(name for name in SCENES if name not in ("pictures", "video"))
# What may stand in one prompt.
LIMITS = {"image": 4, "video": 1}


def max_prompt_tokens(scenes: str) -> int:
    """An upper bound of the tokens of a prompt."""
    return max(size.num_visual_tokens for size in SCENES[scenes]) + MAX_TEXT_TOKENS
