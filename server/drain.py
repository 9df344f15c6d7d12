"""What a stop signal does to requests in flight: with `--shutdown-timeout`, they finish first.

vLLM's launcher stops its renderer at once and lets only the engine finish: a request whose picture is still being
decoded fails, and so does one that comes over a connection kept open. Here connections close to new requests first,
those in flight get their answers, and the engine stops when it is idle.
"""

import asyncio
import time

from fastapi import FastAPI
from vllm.logger import init_logger

from server.engine import SparseAsyncLLM

logger = init_logger(f"vllm.{__name__}")

POLL_INTERVAL_S = 0.05

# For answers that were cut off, or whose client reads slowly, to leave this process.
LAST_BYTES_S = 5


class Drain:
    """Waits for the requests in flight; what `SparseAsyncLLM.shutdown` calls first.

    Args:
        app: vLLM's application, whose `state.server` is the uvicorn server.
        engine: the engine that answers.
    """

    def __init__(self, app: FastAPI, engine: SparseAsyncLLM) -> None:
        self._app = app
        self._engine = engine
        self._loop = asyncio.get_running_loop()

    def __call__(self, timeout_s: float) -> None:
        """Block until no request is in flight. To be called off the event loop.

        Args:
            timeout_s: after so long, what is left ends with `finish_reason` "abort".
        """
        asyncio.run_coroutine_threadsafe(self._drain(timeout_s), self._loop).result()

    async def _drain(self, timeout_s: float) -> None:
        self._close_connections()
        logger.info("Stopping: %d request(s) in flight have %s s to finish.", self._num_in_flight(), timeout_s)
        if not await self._is_idle_within(timeout_s):
            logger.warning("Stopping: %d request(s) in flight are cut off.", self._num_in_flight())
            await self._engine.abort(list(self._engine.output_processor.request_states), internal=True)
            await self._is_idle_within(LAST_BYTES_S)

    def _close_connections(self) -> None:
        """No new ones, and those that are open close after the answer they wait for, as in uvicorn's own shutdown."""
        server = self._app.state.server
        for listener in server.servers:
            listener.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()

    async def _is_idle_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while (is_busy := self._num_in_flight() > 0) and time.monotonic() < deadline and not self._engine.errored:
            await asyncio.sleep(POLL_INTERVAL_S)
        return not is_busy

    def _num_in_flight(self) -> int:
        """HTTP requests without a whole answer; background responses have none and are counted in the engine."""
        return max(len(self._app.state.server.server_state.tasks), self._engine.get_num_unfinished_requests())
