"""When /readyz says no, with an engine that does as it is told; tests/server/test_http_observed.py has the real one."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server import probes
from server.probes import Readiness, add_probes


class Engine:
    """Answers a question when it is let.

    Args:
        answers: whether it does at once; otherwise never.
    """

    def __init__(self, answers: bool) -> None:
        self.is_stopping = self.errored = False
        self.last_output_s = time.monotonic() - 2 * probes.FRESH_S
        self.answers = answers
        self.failure: Exception | None = None
        self.questions = []

    async def generate(self, prompt, params, request_id):
        self.questions.append((prompt["prompt_token_ids"], params.max_tokens))
        if self.failure is not None:
            raise self.failure
        if not self.answers:
            await asyncio.Event().wait()
        self.last_output_s = time.monotonic()
        yield SimpleNamespace()


def problems(engine: Engine, *, timeout_s: float = 60.0, times: int = 1, pause_s: float = 0.0) -> list[str | None]:
    """What /readyz would say, asked several times."""

    async def ask() -> list[str | None]:
        readiness = Readiness(engine, timeout_s)
        said = []
        for _ in range(times):
            said.append(readiness.problem())
            await asyncio.sleep(pause_s)
        return said

    return asyncio.run(ask())


def test_an_engine_that_just_generated_is_asked_nothing():
    engine = Engine(answers=False)
    engine.last_output_s = time.monotonic()
    assert problems(engine, times=3) == [None] * 3
    assert engine.questions == []


def test_an_idle_engine_is_asked_for_one_token_once():
    engine = Engine(answers=True)
    assert problems(engine, times=3, pause_s=0.01) == [None] * 3
    assert engine.questions == [([0], 1)]


def test_a_silent_engine_is_asked_once_and_unready_after_the_timeout():
    engine = Engine(answers=False)
    first, *_, last = problems(engine, timeout_s=0.05, times=20, pause_s=0.01)
    assert first is None
    assert last.startswith("The engine has generated nothing for 1")
    assert len(engine.questions) == 1


def test_an_engine_that_cannot_generate_is_unready_until_it_can():
    engine = Engine(answers=True)
    engine.failure = RuntimeError("no block is free")

    async def ask() -> list[str | None]:
        readiness = Readiness(engine, 60.0)
        readiness.problem()
        await asyncio.sleep(0.01)
        failed = readiness.problem()
        engine.failure = None
        await asyncio.sleep(0.01)
        readiness.problem()
        await asyncio.sleep(0.01)
        return [failed, readiness.problem()]

    assert asyncio.run(ask()) == ["The engine cannot generate: no block is free", None]


def test_the_first_proof_waits_for_the_answer():
    engine = Engine(answers=True)
    asyncio.run(Readiness(engine, 60.0).prove())
    assert engine.questions == [([0], 1)]
    engine.failure = RuntimeError("no block is free")
    with pytest.raises(RuntimeError, match="no block is free"):
        asyncio.run(Readiness(engine, 60.0).prove())


@pytest.mark.parametrize(
    ("state", "sentence"), [("is_stopping", "The server is stopping."), ("errored", "The engine is dead.")]
)
def test_routes(state, sentence):
    engine, app = Engine(answers=True), FastAPI()
    add_probes(app, Readiness(engine, 60.0))
    client = TestClient(app)
    engine.last_output_s = time.monotonic()
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    setattr(engine, state, True)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"] == {
        "message": sentence, "type": "ServiceUnavailableError", "param": None, "code": 503,
    }  # fmt: skip
    assert client.get("/livez").status_code == 200
