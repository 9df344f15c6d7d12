"""Sends one planned request, and leaves early where the plan says so."""

import asyncio
import time

import httpx

from benchmarks.soak.callers import headers
from benchmarks.soak.plan import Planned
from benchmarks.soak.replies import Reply, parsed

# No request of a soak runs as long; what is not answered by then hangs.
ANSWER_LIMIT_S = 300.0


async def send(client: httpx.AsyncClient, planned: Planned) -> Reply:
    """Send a request and read its answer, whatever it is.

    Args:
        client: of the server.
        planned: the request.
    """
    start = time.perf_counter()
    status, content_type, received, is_whole = None, "", [], False
    try:
        async with asyncio.timeout(planned.leaves_after_s or ANSWER_LIMIT_S):
            request = client.stream("POST", planned.path, content=planned.body, headers=headers(planned.key))
            async with request as response:
                status, content_type = response.status_code, response.headers.get("Content-Type", "")
                async for chunk in response.aiter_bytes():
                    received.append(chunk)
                    if len(received) == planned.leaves_after_chunks:
                        break
                else:
                    is_whole = True
    except TimeoutError:
        if not planned.may_leave:
            return Reply(
                time.perf_counter() - start, status, is_whole=False, transport_error=f"silent for {ANSWER_LIMIT_S} s"
            )
    except httpx.HTTPError as error:
        reason = f"{type(error).__name__}: {error}"
        return Reply(time.perf_counter() - start, status, is_whole=False, transport_error=reason)
    latency_s = time.perf_counter() - start
    if status is None:
        return Reply(latency_s, is_whole=False)
    return parsed(status, content_type, b"".join(received).decode(errors="replace"), latency_s, is_whole)
