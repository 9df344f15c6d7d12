"""The demo model's held-out questions, asked through the OpenAI chat API."""

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from training.demo_data import QUESTIONS_FILE

MAX_ANSWER_TOKENS = 24
# Characters of a refusal that are repeated.
MAX_REFUSAL = 300
MIME_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}


@dataclass(frozen=True, slots=True)
class Question:
    """One row of `questions.jsonl`: media first, then text.

    Attributes:
        kind: "image" or "video".
        type: what is asked, such as "shape_color".
        content: the parts of the user message.
        answer: the one right answer.
    """

    kind: str
    type: str
    content: list[dict[str, Any]]
    answer: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered to one question.

    Attributes:
        is_correct: whether it is the right answer, word for word.
        text: the answer.
        num_prompt_tokens: text and media.
        sparsity: `usage.sparsity` of the response.
    """

    is_correct: bool
    text: str
    num_prompt_tokens: int
    sparsity: dict[str, Any]

    @property
    def layer_token_ratios(self) -> list[float]:
        """Tokens whose keys and values stayed / prompt tokens, by layer."""
        return [num_kept / self.num_prompt_tokens for num_kept in self.sparsity["kept_tokens_per_layer"]]


def load(folder: Path) -> list[Question]:
    """Read what `python -m training.demo_data` wrote to `folder`."""
    lines = (folder / QUESTIONS_FILE).read_text(encoding="utf-8").splitlines()
    return [_question(json.loads(line), folder) for line in lines]


def _question(row: dict[str, Any], folder: Path) -> Question:
    content = [_media_part(item["type"], folder / item["path"]) for item in row["media"]]
    kind = "video" if any(item["type"] == "video" for item in row["media"]) else "image"
    return Question(kind, row["type"], [*content, {"type": "text", "text": row["question"]}], row["answer"])


def _media_part(kind: str, path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": f"{kind}_url", f"{kind}_url": {"url": f"data:{MIME_TYPES[path.suffix]};base64,{data}"}}


async def ask_all(url: str, questions: Sequence[Question], sparsity_p: float, concurrency: int) -> list[Reply]:
    """Ask every question once, greedily, at most `concurrency` at a time; replies are in the order of questions.

    Raises:
        BenchmarkError: the server cannot be reached, refused a question, or does not report what it kept.
    """
    try:
        return await _ask_all(url, questions, sparsity_p, concurrency)
    except httpx.HTTPStatusError as error:
        raise BenchmarkError(f"The server at {url} refused a question: {error.response.text[:MAX_REFUSAL]}") from error
    except httpx.HTTPError as error:
        raise BenchmarkError(f"The server at {url} does not answer ({type(error).__name__}: {error}).") from error


async def _ask_all(url: str, questions: Sequence[Question], sparsity_p: float, concurrency: int) -> list[Reply]:
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=600) as client:
        models = (await client.get("/v1/models")).raise_for_status().json()
        model = models["data"][0]["id"]
        with tqdm(total=len(questions), desc=f"sparsity_p {sparsity_p:g}", unit="question", leave=None) as progress:

            async def ask(question: Question) -> Reply:
                reply = await _ask(client, model, question, sparsity_p)
                progress.update()
                return reply

            return await asyncio.gather(*(ask(question) for question in questions))


async def _ask(client: httpx.AsyncClient, model: str, question: Question, sparsity_p: float) -> Reply:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question.content}],
        "temperature": 0,
        "max_tokens": MAX_ANSWER_TOKENS,
        "sparsity_p": sparsity_p,
    }
    answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
    text = (answer["choices"][0]["message"]["content"] or "").strip()
    usage = answer["usage"]
    if "sparsity" not in usage:
        raise BenchmarkError(
            f"usage of {model} lacks `sparsity`, but what was kept is to be measured. "
            "Give the address of `python -m server`."
        )
    return Reply(text == question.answer, text, usage["prompt_tokens"], usage["sparsity"])
