"""GET /livez and GET /readyz: whether to restart the process, and whether to send it requests. /health stays vLLM's.

| | /livez | /readyz | /health |
| --- | --- | --- | --- |
| 200 says | the process answers | the engine generates | the engine's processes live |
| engine dead | 200 until the process ends itself | 503 | 503 |
| engine hangs | 200 | 503 after `--readiness-timeout` | 200 |
| stopping | 200 | 503 | 200 |
"""

import asyncio
import time
from http import HTTPStatus

from fastapi import APIRouter, FastAPI
from starlette.responses import JSONResponse, Response
from vllm.inputs.engine import tokens_input
from vllm.sampling_params import SamplingParams

from server.engine import SparseAsyncLLM
from server.refusals import refusal

# Output that is this old proves nothing any more: the engine gets a question.
FRESH_S = 5
RETRY_AFTER_S = 5


class Readiness:
    """Knows whether the engine generates: tokens come out of it, for clients or for a question of our own.

    A question is asked only while /readyz is, only when nothing else came out lately, and one at a time.
    It has one token and takes the way of every request.

    Args:
        engine: the one that answers.
        timeout_s: how long a question may stay unanswered.
    """

    def __init__(self, engine: SparseAsyncLLM, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._asked_s = 0.0
        self._question: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def prove(self) -> None:
        """Ask a question and wait for the answer, before the first request is let in."""
        await self._ask()

    def problem(self) -> str | None:
        """What stands against sending requests here, in a sentence; None when nothing does."""
        if self._engine.is_stopping:
            return "The server is stopping."
        if self._engine.errored:
            return "The engine is dead."
        now_s = time.monotonic()
        if now_s - self._engine.last_output_s <= FRESH_S:
            self._failure = None
            return None
        if self._question is None or self._question.done():
            self._asked_s = now_s
            self._question = asyncio.create_task(self._note_failure())
        elif now_s - self._asked_s > self._timeout_s:
            return f"The engine has generated nothing for {now_s - self._engine.last_output_s:.0f} s."
        return None if self._failure is None else f"The engine cannot generate: {self._failure}"

    async def _note_failure(self) -> None:
        try:
            await self._ask()
        except Exception as error:
            self._failure = error
        else:
            self._failure = None

    async def _ask(self) -> None:
        params = SamplingParams(max_tokens=1, ignore_eos=True, detokenize=False)
        async for _ in self._engine.generate(tokens_input([0]), params, "readyz"):
            pass


def add_probes(app: FastAPI, readiness: Readiness) -> None:
    """Add both routes to vLLM's application."""
    router = APIRouter()

    @router.get("/livez", response_class=Response)
    async def livez() -> Response:
        """Liveness: the process answers."""
        return Response()

    @router.get("/readyz", response_class=Response)
    async def readyz() -> Response:
        """Readiness: the engine generates."""
        problem = readiness.problem()
        return Response() if problem is None else _unready(problem)

    app.include_router(router)


def _unready(problem: str) -> JSONResponse:
    return refusal(
        problem,
        reason=None,
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        error_type="ServiceUnavailableError",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )
