"""What is sent: the kinds of requests with their shares, drawn so that request number i is the same in every run."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.questions import Question
from benchmarks.soak import callers
from benchmarks.soak.hostile import Refused, bad_fields, hostile_media
from benchmarks.soak.prompts import SPARSITY_P, Prompt

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
OK, BAD_REQUEST, UNAUTHORIZED, TOO_MANY = 200, 400, 401, 429
# Seconds, and chunks of a stream, after which impatient clients leave: from before the engine has the request until
# while it answers.
LEAVING_S = (0.005, 0.02, 0.05, 0.1, 0.3, 1.0)
LEAVING_CHUNKS = (1, 2, 5, 20)
COLORS = ("red", "green", "blue", "cyan")
COLOR_SCHEMA = {
    "type": "object",
    "properties": {"color": {"type": "string", "enum": [*COLORS]}},
    "required": ["color"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Planned:
    """One request, and what must come back.

    Attributes:
        kind: a name of `KINDS`.
        path: the route.
        body: what is sent.
        key: whose request it is.
        statuses: that may come back.
        param: the field that a refusal must name; None where it need not name one.
        prompt: whose reference the answer must equal.
        num_choices: how many answers must come back.
        form: "text", or "color" where the answer must be JSON of `COLOR_SCHEMA`, or "call" where the arguments of a
            tool call must be.
        leaves_after_s: seconds after which the client leaves.
        leaves_after_chunks: chunks after which it leaves.
    """

    kind: str
    path: str
    body: bytes
    key: str = callers.OPEN
    statuses: frozenset[int] = frozenset({OK})
    param: str | None = None
    prompt: Prompt | None = None
    num_choices: int = 1
    form: str = "text"
    leaves_after_s: float | None = None
    leaves_after_chunks: int | None = None

    @property
    def may_leave(self) -> bool:
        return self.leaves_after_s is not None or self.leaves_after_chunks is not None


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests of a soak, by number.

    Attributes:
        model: the name it is served under.
        prompts: the greedy requests, with their references.
        questions: what other requests ask.
        blanks: tokens of white space, with which the demo model would fill JSON.
        seed: of all draws.
    """

    model: str
    prompts: Sequence[Prompt]
    questions: Sequence[Question]
    blanks: Sequence[int]
    seed: int
    _kinds: list[str] = field(default_factory=lambda: list(KINDS))
    _shares: list[float] = field(default_factory=lambda: [share for share, _ in KINDS.values()])

    def request(self, number: int) -> Planned:
        """Request `number`."""
        rng = random.Random(f"{self.seed}/{number}")
        (kind,) = rng.choices(self._kinds, self._shares)
        return KINDS[kind][1](self, kind, rng)

    def chat(self, rng: random.Random, asked: Sequence[Question] = (), **fields: Any) -> bytes:
        """A chat request about one of the questions, or of those in `asked`; fields that are None are left out."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": rng.choice(asked or self.questions).content}],
            "sparsity_p": rng.choice(SPARSITY_P),
            "max_tokens": 12,
            **fields,
        }
        return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def _streaming(rng: random.Random) -> dict[str, Any]:
    return {"stream": True, "stream_options": {"include_usage": True}} if rng.random() < 0.5 else {}


def _greedy(plan: Plan, kind: str, rng: random.Random) -> Planned:
    prompt = rng.choice(plan.prompts)
    return Planned(kind, CHAT, prompt.encoded(stream=rng.random() < 0.5), prompt=prompt)


def _several(plan: Plan, kind: str, rng: random.Random) -> Planned:
    n = rng.choice((2, 3))
    body = plan.chat(rng, n=n, temperature=1.0, seed=rng.randrange(1000), **_streaming(rng))
    return Planned(kind, CHAT, body, num_choices=n)


def _json(plan: Plan, kind: str, rng: random.Random) -> Planned:
    wish = {"type": "json_schema", "json_schema": {"name": "color", "schema": COLOR_SCHEMA, "strict": True}}
    return Planned(
        kind, CHAT, plan.chat(rng, response_format=wish, max_tokens=64, temperature=0, **_streaming(rng)), form="color"
    )


def _tool(plan: Plan, kind: str, rng: random.Random) -> Planned:
    # Beside the description of a tool, the largest media do not fit.
    by_size = sorted(plan.questions, key=lambda question: len(str(question.content)))
    tool = {"type": "function", "function": {"name": "paint", "strict": True, "parameters": COLOR_SCHEMA}}
    body = plan.chat(
        rng,
        by_size[: len(by_size) // 2],
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "paint"}},
        parallel_tool_calls=False,
        max_tokens=128,
        temperature=0,
        logit_bias={str(token): -100 for token in plan.blanks},
        **_streaming(rng),
    )
    return Planned(kind, CHAT, body, form="call")


def _completion(plan: Plan, kind: str, rng: random.Random) -> Planned:
    texts = ["What color is it ?", "Who are you ?", "Hello !"][: rng.choice((1, 3))]
    body = {"model": plan.model, "prompt": texts, "max_tokens": 16, "temperature": 0.5, **_streaming(rng)}
    return Planned(kind, COMPLETIONS, json.dumps(body).encode(), num_choices=len(texts))


def _response(plan: Plan, kind: str, rng: random.Random) -> Planned:
    body = {"model": plan.model, "input": "What color is it ?", "max_output_tokens": 16, "sparsity_p": 0.9}
    body["stream"] = rng.random() < 0.5
    return Planned(kind, RESPONSES, json.dumps(body).encode(), num_choices=0)


def _leaving(plan: Plan, kind: str, rng: random.Random) -> Planned:
    prompt = rng.choice(plan.prompts)
    if rng.random() < 0.5:
        return Planned(kind, CHAT, prompt.encoded(stream=True), leaves_after_chunks=rng.choice(LEAVING_CHUNKS))
    body = prompt.encoded(stream=rng.random() < 0.5)
    return Planned(kind, CHAT, body, leaves_after_s=rng.choice(LEAVING_S))


def _refused(way: Refused, plan: Plan, kind: str, rng: random.Random) -> Planned:
    body = plan.chat(rng, **way.fields)
    return Planned(kind, CHAT, body, statuses=frozenset({way.status}), param=way.param)


def _hostile(plan: Plan, kind: str, rng: random.Random) -> Planned:
    return _refused(rng.choice(hostile_media()), plan, kind, rng)


def _bad(plan: Plan, kind: str, rng: random.Random) -> Planned:
    if rng.random() < 0.1:
        body = plan.chat(rng)
        return Planned(kind, CHAT, body[: rng.randrange(len(body))], statuses=frozenset({BAD_REQUEST}))
    return _refused(rng.choice(bad_fields()), plan, kind, rng)


def _policy(plan: Plan, kind: str, rng: random.Random) -> Planned:
    """Callers with a policy, and one without a key that the server knows."""
    key = rng.choice((callers.NARROW, callers.RATED, callers.UNKNOWN))
    if key == callers.UNKNOWN:
        return Planned(kind, CHAT, plan.chat(rng), key, frozenset({UNAUTHORIZED}))
    if key == callers.RATED:
        return Planned(kind, CHAT, plan.chat(rng), key, frozenset({OK, TOO_MANY}))
    body = plan.chat(rng, sparsity_p=callers.TOO_SPARSE_FOR_NARROW)
    return Planned(kind, CHAT, body, key, frozenset({BAD_REQUEST}), "sparsity_p")


KINDS: Mapping[str, tuple[float, Callable[[Plan, str, random.Random], Planned]]] = {
    "greedy": (0.45, _greedy),
    "several answers": (0.06, _several),
    "JSON": (0.05, _json),
    "tool call": (0.03, _tool),
    "completion": (0.05, _completion),
    "response": (0.03, _response),
    "leaving client": (0.14, _leaving),
    "hostile media": (0.07, _hostile),
    "bad field": (0.08, _bad),
    "key": (0.04, _policy),
}
"""Kind -> its share of all requests, and what makes one."""
