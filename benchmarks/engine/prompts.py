"""Prompts of a measurement: random tokens of a given number, or held-out questions about real pictures and videos."""

from collections.abc import Iterator
from functools import cache
from itertools import count, cycle, islice
from statistics import fmean
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.engine.scenes import SCENES, max_prompt_tokens

# Ordinary tokens in the vocabularies of Qwen2.5-VL and of the demo model alike.
FIRST_TOKEN, LAST_TOKEN = 300, 450
# Rendered again and again from here on: pictures take memory.
MAX_QUESTIONS = 128


class Prompt(NamedTuple):
    """A prompt as `LLMEngine.add_request` takes it.

    Attributes:
        content: token ids, and for questions the processed pictures.
        answer: the one right answer; None where nothing was asked.
    """

    content: Any
    answer: str | None = None


class PromptStream(Protocol):
    """Prompts of one kind, one after the other.

    Attributes:
        longest: upper bound of their tokens.
        mean_tokens: of all there are.
    """

    longest: int
    mean_tokens: float

    def take(self, num_prompts: int) -> list[Prompt]:
        """The next prompts; no two requests share a prefix or a picture, as far as vLLM's caches can see."""


class RandomPrompts:
    """Random ordinary tokens.

    Args:
        num_tokens: of every prompt.
        seed: the same seed and indices give the same prompts.
        indices: one for each prompt.
    """

    def __init__(self, num_tokens: int, seed: int, indices: Iterator[int]) -> None:
        self.longest = num_tokens
        self.mean_tokens = float(num_tokens)
        self._seed = seed
        self._indices = indices

    def take(self, num_prompts: int) -> list[Prompt]:
        return [self._draw(index) for index in islice(self._indices, num_prompts)]

    def _draw(self, index: int) -> Prompt:
        tokens = np.random.default_rng([self._seed, index]).integers(FIRST_TOKEN, LAST_TOKEN, self.longest)
        return Prompt({"prompt_token_ids": tokens.tolist()})


class QuestionPrompts:
    """Questions that were rendered before, from the first one on; after the last one they begin again.

    Args:
        rendered: questions.
        longest: upper bound of their tokens.
        uses: numbers that no other stream of the engine gets.
    """

    def __init__(self, rendered: list[Prompt], longest: int, uses: Iterator[int]) -> None:
        self.longest = longest
        self.mean_tokens = fmean(len(prompt.content["prompt_token_ids"]) for prompt in rendered)
        self._rendered = cycle(rendered)
        self._uses = uses

    def take(self, num_prompts: int) -> list[Prompt]:
        return [self._as_new(prompt, next(self._uses)) for prompt in islice(self._rendered, num_prompts)]

    @staticmethod
    def _as_new(prompt: Prompt, use: int) -> Prompt:
        """Pictures under names of their own, so that the cache of encoder outputs does not know them."""
        names = {kind: [f"{name}-{use}" for name in hashes] for kind, hashes in prompt.content["mm_hashes"].items()}
        return prompt._replace(content=prompt.content | {"mm_hashes": names})


class Prompts:
    """All prompts of one engine.

    Args:
        llm: a `vllm.LLM`; its own processor renders questions, before anything is timed.
        seed: of random tokens, and of the held-out set.
    """

    def __init__(self, llm: Any, seed: int) -> None:
        self._llm = llm
        self._seed = seed
        self._counter = count()
        self._questions = cache(self._render)

    def of(self, point: dict[str, Any]) -> PromptStream:
        """The prompts of a point: questions of its `scenes`, or random tokens of its `context`."""
        if "scenes" not in point:
            # A kind of point that brings its own prompts has neither.
            return RandomPrompts(point.get("context", 0), self._seed, self._counter)
        name = point["scenes"]
        num_prompts = min(MAX_QUESTIONS, point.get("num_questions", MAX_QUESTIONS))
        return QuestionPrompts(self._questions(name, num_prompts), max_prompt_tokens(name), self._counter)

    def _render(self, scenes: str, num_prompts: int) -> list[Prompt]:
        """Draw, ask and process the first questions of the held-out set with scenes of these sizes."""
        from training.demo.streams import HELD_OUT_STREAM, make_example

        sizes = SCENES[scenes]
        examples = [
            make_example(self._seed, HELD_OUT_STREAM, index, sizes[index % len(sizes)], num_questions=1)
            for index in range(num_prompts)
        ]
        asked = [
            self._asked(example.frames, example.scene.size.kind, example.questions[0].text) for example in examples
        ]
        rendered = self._llm.llm_engine.renderer.render_cmpl(asked)
        answers = [example.questions[0].answer for example in examples]
        return [Prompt(content, answer) for content, answer in zip(rendered, answers, strict=True)]

    def _asked(self, frames: np.ndarray, kind: str, question: str) -> dict[str, Any]:
        """A user's message with its media, in the model's own chat format."""
        from PIL import Image

        if kind == "video":
            media, data = [{"type": "video"}], {"video": [(frames, _metadata(len(frames)))]}
        else:
            media, data = [{"type": "image"}] * len(frames), {"image": [Image.fromarray(frame) for frame in frames]}
        message = {"role": "user", "content": [*media, {"type": "text", "text": question}]}
        text = self._llm.get_tokenizer().apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        return {"prompt": text, "multi_modal_data": data}


def _metadata(num_frames: int) -> dict[str, Any]:
    """Of a video that was not read from a file, as vLLM's video loader would give it."""
    from training.demo.geometry import FRAMES_PER_SECOND

    return {
        "fps": float(FRAMES_PER_SECOND),
        "frames_indices": list(range(num_frames)),
        "total_num_frames": num_frames,
        "duration": num_frames / FRAMES_PER_SECOND,
    }
