"""The greedy requests of a soak: demo questions at mixed `sparsity_p`, each with its answer alone."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.questions import Question, load
from benchmarks.soak.answers import REFERENCE_FIELDS, Reference
from training.demo.streams import SIZES
from training.demo_data import write_dataset

# None leaves the field out, so that the server's default holds.
SPARSITY_P = (None, 1.0, 0.99, 0.975, 0.9, 0.7, 0.3)
TEXTS = ("Who are you?", "Hello!", "What can you do?", "Thanks!")
# Most answers of the demo model are short. The long ones go on behind their end: they grow while others arrive, and are
# what a full cache preempts.
ANSWER_TOKENS = (8, 24, 160)
ANSWER_WEIGHTS = (4, 4, 3)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One greedy request.

    Attributes:
        body: of /v1/chat/completions.
        reference: its answer alone; None until it was asked.
    """

    body: dict[str, Any]
    reference: Reference | None = None

    def encoded(self, stream: bool) -> bytes:
        """The body to send, with its tokens to come back."""
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return json.dumps({**self.body, "return_token_ids": True, **more}).encode()

    def encoded_for_reference(self) -> bytes:
        """The body whose answer `reference_of` can read."""
        return json.dumps({**self.body, "return_token_ids": True, **REFERENCE_FIELDS}).encode()

    def answered(self, reference: Reference) -> "Prompt":
        return replace(self, reference=reference)


@cache
def questions(seed: int) -> tuple[Question, ...]:
    """Questions without media, about one to four pictures, and about videos, every size once."""
    with TemporaryDirectory() as folder:
        write_dataset(seed, len(SIZES), Path(folder))
        about_media = load(Path(folder))
    about_nothing = [Question("text", "greeting", [{"type": "text", "text": text}], "") for text in TEXTS]
    return (*about_nothing, *about_media)


def prompts(model: str, asked: Sequence[Question], count: int, seed: int) -> list[Prompt]:
    """Greedy requests: the questions in turn, each time with another `sparsity_p`; how long answers are is drawn.

    Args:
        model: the name it is served under.
        asked: what is asked.
        count: how many requests.
        seed: of the draws.
    """
    rng = random.Random(seed)
    turns = (divmod(index, len(asked)) for index in range(count))
    lengths = rng.choices(ANSWER_TOKENS, ANSWER_WEIGHTS, k=count)
    return [
        Prompt(_body(model, asked[index], SPARSITY_P[(turn + index) % len(SPARSITY_P)], length))
        for (turn, index), length in zip(turns, lengths, strict=True)
    ]


def _body(model: str, question: Question, sparsity_p: float | None, max_tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": question.content}],
        "temperature": 0,
        "max_tokens": max_tokens,
        "ignore_eos": max_tokens == max(ANSWER_TOKENS),
        **({} if sparsity_p is None else {"sparsity_p": sparsity_p}),
    }
