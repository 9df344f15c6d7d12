"""What a server holds: requests and KV blocks by its own metrics, memory and files of its processes."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import psutil

from benchmarks.load.metrics import metric_sum

BUSY_METRICS = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
# Requests whose client left are gone from the engine within a few of its steps.
IDLE_LIMIT_S = 60.0
POLL_S = 0.1
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the processes of a server hold of the machine.

    Attributes:
        server_mib: memory that only the HTTP process has.
        engine_mib: memory that only the engine and its workers have, of each, added up.
        num_files: open files, sockets and pipes of all of them.
        num_threads: of all of them.
    """

    server_mib: float
    engine_mib: float
    num_files: int
    num_threads: int


def footprint(pid: int) -> Footprint:
    """The footprint of a server and its children now."""
    server = psutil.Process(pid)
    children = server.children(recursive=True)
    everyone = [server, *children]
    return Footprint(
        server_mib=server.memory_full_info().uss / MIB,
        engine_mib=sum(child.memory_full_info().uss for child in children) / MIB,
        num_files=sum(process.num_fds() for process in everyone),
        num_threads=sum(process.num_threads() for process in everyone),
    )


async def metrics(client: httpx.AsyncClient, headers: Mapping[str, str]) -> str:
    """The page of the server's metrics."""
    return (await client.get("/metrics", headers=headers, timeout=60)).raise_for_status().text


async def busy_after_wait(client: httpx.AsyncClient, headers: Mapping[str, str]) -> dict[str, float]:
    """Wait until the server has no request and no KV block in use.

    Returns:
        What is still there after `IDLE_LIMIT_S`, by metric; empty where the server is idle.
    """
    deadline = time.monotonic() + IDLE_LIMIT_S
    while True:
        page = await metrics(client, headers)
        busy = {name: value for name in BUSY_METRICS if (value := metric_sum(page, name))}
        if not busy or time.monotonic() > deadline:
            return busy
        await asyncio.sleep(POLL_S)
