"""Runs a soak: every greedy request alone, legs of mixed requests, and the greedy requests alone again.

After each leg the server must be idle, with every KV block free; then its footprint is taken.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.load.metrics import metric_sum
from benchmarks.server_process import RunningServer
from benchmarks.soak.answers import difference, is_tie, reference_of
from benchmarks.soak.callers import OPEN, headers
from benchmarks.soak.client import send
from benchmarks.soak.judge import fault
from benchmarks.soak.plan import CHAT, Plan, Planned
from benchmarks.soak.prompts import Prompt, prompts, questions
from benchmarks.soak.replies import Reply
from benchmarks.soak.watch import Footprint, busy_after_wait, footprint, metrics

# A soak that goes so wrong says no more by going on.
MAX_FAULTS = 10
WATCH_INTERVAL_S = 1.0
# Read from the server before and after.
COUNTERS = {
    "preemptions": ("vllm:num_preemptions_total", ""),
    "dropped_feedback": ("winnow_feedback_dropped_total", ""),
    "refused_unauthorized": ("winnow_refused_requests_total", 'reason="unauthorized"'),
    "refused_rate": ("winnow_refused_requests_total", 'reason="rate"'),
}
# What clients saw of these must be what the server counted.
SEEN_AS = {"refused_unauthorized": "refused with 401", "refused_rate": "refused with 429"}


@dataclass(slots=True)
class Leg:
    """One part of a soak.

    Attributes:
        outcomes: number of requests by kind and by status, "left" and "equal" or "tie" among the greedy.
        answered_s: time of every whole answer.
        refused_s: time of every refusal.
        slowdowns: time of every greedy answer / its time alone.
        peak_kv_usage: largest share of KV blocks in use that was seen.
        seconds: of the leg, until the server was idle again.
        footprint: of the idle server after it.
        counted: increase of `COUNTERS`.
    """

    outcomes: Counter = field(default_factory=Counter)
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    slowdowns: list[float] = field(default_factory=list)
    peak_kv_usage: float = 0.0
    seconds: float = 0.0
    footprint: Footprint | None = None
    counted: dict[str, float] = field(default_factory=dict)

    def note(self, planned: Planned, reply: Reply) -> None:
        """Count a reply without fault."""
        if planned.may_leave and not reply.is_whole:
            self.outcomes["left"] += 1
        elif reply.status == HTTPStatus.OK:
            self.outcomes["answered"] += 1
            self.answered_s.append(reply.latency_s)
        else:
            self.outcomes[f"refused with {reply.status}"] += 1
            self.refused_s.append(reply.latency_s)
        if planned.prompt is not None:
            reference = planned.prompt.reference
            self.outcomes["tie" if is_tie(reference, reply.choices[0].token_ids) else "equal"] += 1
            self.slowdowns.append(reply.latency_s / reference.latency_s)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a soak is to do.

    Attributes:
        num_requests: of all legs together.
        num_per_leg: of each leg.
        num_prompts: different greedy requests.
        concurrency: requests in flight.
        seed: of all draws.
    """

    num_requests: int
    num_per_leg: int
    num_prompts: int
    concurrency: int
    seed: int


async def soak(server: RunningServer, wanted: Wanted, progress: Callable[[int], Any]) -> list[Leg]:
    """Run it.

    Args:
        server: that nobody else asks.
        wanted: what to do.
        progress: called with the number of requests that ended.

    Returns:
        What was measured, by leg.

    Raises:
        BenchmarkError: a reply was not what it must be, something stayed behind, or the server went away.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=wanted.concurrency)
    try:
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=None) as client:
            plan = await _prepared(client, wanted)
            starts = range(0, wanted.num_requests, wanted.num_per_leg)
            numbers = [range(start, min(start + wanted.num_per_leg, wanted.num_requests)) for start in starts]
            legs = [await _leg(client, server, plan, part, wanted.concurrency, progress) for part in numbers]
            await _check_again(client, plan.prompts)
    except httpx.HTTPError as error:
        raise BenchmarkError(f"The server does not answer any more ({type(error).__name__}: {error}).") from error
    return legs


async def _prepared(client: httpx.AsyncClient, wanted: Wanted) -> Plan:
    """The plan, with the answer alone of every greedy request."""
    model = (await _asked(client, "GET", "/v1/models"))["data"][0]["id"]
    blanks = [
        token
        for blank in (" ", "\n", "\t")
        for token in (await _asked(client, "POST", "/tokenize", prompt=blank, add_special_tokens=False))["tokens"]
    ]
    asked = questions(wanted.seed)
    greedy = prompts(model, asked, wanted.num_prompts, wanted.seed)
    # The first one warms the server up.
    await _alone(client, greedy[0])
    answered = [prompt.answered(reference_of(await _alone(client, prompt))) for prompt in greedy]
    return Plan(model, answered, asked, blanks, wanted.seed)


async def _asked(client: httpx.AsyncClient, method: str, path: str, **body: Any) -> dict[str, Any]:
    response = await client.request(method, path, json=body or None, headers=headers(OPEN))
    return response.raise_for_status().json()


async def _alone(client: httpx.AsyncClient, prompt: Prompt) -> Reply:
    """The answer to a greedy request that has the server to itself.

    Raises:
        BenchmarkError: there is none.
    """
    planned = Planned("alone", CHAT, prompt.encoded_for_reference())
    reply = await send(client, planned)
    if (wrong := fault(planned, reply)) is not None:
        raise BenchmarkError(f"A greedy request alone {wrong}.")
    return reply


async def _check_again(client: httpx.AsyncClient, greedy: Sequence[Prompt]) -> None:
    """Ask every greedy request alone once more.

    Raises:
        BenchmarkError: an answer is another one than before the soak.
    """
    for prompt in greedy:
        if (wrong := difference(prompt.reference, await _alone(client, prompt))) is not None:
            raise BenchmarkError(f"After the soak, a greedy request alone {wrong} before it.")


async def _leg(
    client: httpx.AsyncClient,
    server: RunningServer,
    plan: Plan,
    numbers: range,
    concurrency: int,
    progress: Callable[[int], Any],
) -> Leg:
    """Send these requests, wait until the server is idle, and look at what it holds.

    Raises:
        BenchmarkError: see `soak`.
    """
    leg, faults, waiting = Leg(), [], iter(numbers)
    start, before = time.perf_counter(), await metrics(client, headers(OPEN))

    async def work() -> None:
        for number in waiting:
            planned = plan.request(number)
            reply = await send(client, planned)
            if (wrong := fault(planned, reply)) is None:
                leg.note(planned, reply)
            else:
                faults.append(f"request {number} ({planned.kind}) {wrong}")
            progress(1)
            if len(faults) >= MAX_FAULTS:
                return

    async with _watched(client, leg):
        await asyncio.gather(*(work() for _ in range(concurrency)))
    if faults:
        raise BenchmarkError(f"{len(faults)} requests of a leg failed. {'; '.join(faults)}.")
    if busy := await busy_after_wait(client, headers(OPEN)):
        raise BenchmarkError(f"After request {numbers[-1]} the server should be idle, but still has {busy}.")
    after = await metrics(client, headers(OPEN))
    leg.seconds, leg.footprint = time.perf_counter() - start, footprint(server.pid)
    leg.counted = {name: metric_sum(after, *where) - metric_sum(before, *where) for name, where in COUNTERS.items()}
    if wrong := {name: leg.counted[name] for name, seen in SEEN_AS.items() if leg.counted[name] != leg.outcomes[seen]}:
        raise BenchmarkError(f"The server counted {wrong}, but clients saw {dict(leg.outcomes)}.")
    return leg


@asynccontextmanager
async def _watched(client: httpx.AsyncClient, leg: Leg):
    """Look at the KV cache while the block runs."""

    async def look() -> None:
        while True:
            page = await metrics(client, headers(OPEN))
            leg.peak_kv_usage = max(leg.peak_kv_usage, metric_sum(page, "vllm:kv_cache_usage_perc"))
            await asyncio.sleep(WATCH_INTERVAL_S)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
