"""vLLM's own load generator, `vllm bench serve`, called as a function.

Its command line needs the metadata of a distribution named vllm, which the CPU build has not; its functions do not.
"""

import asyncio
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import httpx
import numpy as np
from vllm.benchmarks.datasets import SampleRequest
from vllm.benchmarks.serve import TaskType, benchmark

from benchmarks.errors import BenchmarkError
from benchmarks.load.metrics import metric_sum
from benchmarks.questions import Question

BACKEND = "openai-chat"
ENDPOINT = "/v1/chat/completions"
# The same arrivals for every server.
ARRIVALS_SEED = 0
# Between two looks at the server's metrics, in seconds.
WATCH_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class Load:
    """How requests arrive.

    Attributes:
        kind: "concurrency" keeps `value` requests in flight; "request_rate" sends `value` a second as a Poisson
            process, whatever is in flight.
        value: number of requests.
    """

    kind: str
    value: float

    def num_requests(self, at_least: int) -> int:
        """Requests of one measurement: with so many in flight, three times as many, so that most see the full load."""
        return max(at_least, 3 * int(self.value)) if self.kind == "concurrency" else at_least


@dataclass(frozen=True, slots=True)
class Target:
    """Where load is sent.

    Attributes:
        url: of the server, without a path.
        model: the name it serves.
        extra_body: fields of every request beside the messages.
    """

    url: str
    model: str
    extra_body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the load generator saw.

    Attributes:
        texts: the answers, in the order of the requests.
        ttft_ms: time to the first token of every request.
        tpot_ms: mean time per further token of every request.
        itl_ms: times between two chunks of a stream, over all requests.
        output_throughput: generated tokens a second.
        request_throughput: finished requests a second.
        goodput: requests a second that met the service-level objective; None where none was given.
        peak_kv_usage: largest share of KV cache blocks in use that was seen.
        num_preemptions: requests that lost their KV cache and started anew.
    """

    texts: list[str]
    ttft_ms: list[float]
    tpot_ms: list[float]
    itl_ms: list[float]
    output_throughput: float
    request_throughput: float
    goodput: float | None
    peak_kv_usage: float
    num_preemptions: float


def sample_requests(questions: Sequence[Question], num_requests: int, output_tokens: int) -> list[SampleRequest]:
    """The questions in turn as requests of vLLM's load generator; the server counts their tokens."""
    return [
        SampleRequest(
            prompt="",
            prompt_len=0,
            expected_output_len=output_tokens,
            request_id=str(index),
            chat_messages=[{"role": "user", "content": question.content}],
        )
        for index, question in enumerate(islice(cycle(questions), num_requests))
    ]


def drive(
    target: Target, requests: Sequence[SampleRequest], load: Load, slo_ms: Mapping[str, float] | None = None
) -> Measurement:
    """Send all requests and wait for their ends.

    Args:
        target: the server.
        requests: in the order of their arrival.
        load: how they arrive.
        slo_ms: bounds that a good request keeps, by "ttft" and "tpot", in milliseconds.

    Raises:
        BenchmarkError: the server refused or lost a request, or went away.
    """
    np.random.seed(ARRIVALS_SEED)
    try:
        measured, watched = asyncio.run(_drive(target, list(requests), load, dict(slo_ms or {})))
    except httpx.HTTPError as error:
        raise BenchmarkError(
            f"The server at {target.url} does not answer ({type(error).__name__}: {error})."
        ) from error
    if errors := [error for error in measured["errors"] if error]:
        raise BenchmarkError(
            f"The server at {target.url} failed {len(errors)} of {len(requests)} requests: {errors[0].strip()[-300:]}"
        )
    return _measurement(measured, watched)


async def _drive(
    target: Target, requests: list[SampleRequest], load: Load, slo_ms: dict[str, float]
) -> tuple[dict[str, Any], dict[str, float]]:
    is_rate = load.kind == "request_rate"
    async with _Watch(target.url) as watch:
        # It prints a page for every run.
        with redirect_stdout(io.StringIO()):
            measured = await benchmark(
                task_type=TaskType.GENERATION,
                endpoint_type=BACKEND,
                api_url=target.url + ENDPOINT,
                base_url=target.url,
                model_id=target.model,
                model_name=target.model,
                tokenizer=None,
                input_requests=requests,
                logprobs=None,
                request_rate=load.value if is_rate else float("inf"),
                burstiness=1.0,
                disable_tqdm=True,
                num_warmups=0,
                profile=False,
                selected_percentile_metrics=[],
                selected_percentiles=[],
                ignore_eos=True,
                goodput_config_dict=slo_ms,
                max_concurrency=None if is_rate else int(load.value),
                lora_modules=None,
                extra_headers=None,
                extra_body={"temperature": 0, **target.extra_body},
                ready_check_timeout_sec=0,
            )
    return measured, watch.seen()


def _measurement(measured: Mapping[str, Any], watched: Mapping[str, float]) -> Measurement:
    latencies = zip(measured["latencies"], measured["ttfts"], measured["output_lens"], strict=True)
    return Measurement(
        texts=measured["generated_texts"],
        ttft_ms=[1000 * value for value in measured["ttfts"]],
        tpot_ms=[1000 * (latency - ttft) / (tokens - 1) for latency, ttft, tokens in latencies if tokens > 1],
        itl_ms=[1000 * value for request in measured["itls"] for value in request],
        output_throughput=measured["output_throughput"],
        request_throughput=measured["request_throughput"],
        goodput=measured["request_goodput"],
        **watched,
    )


class _Watch:
    """Looks at a server's metrics while a block runs."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=60)
        self._pages: list[str] = []

    async def __aenter__(self) -> "_Watch":
        await self._look()
        self._task = asyncio.create_task(self._look_on())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._look()
        await self._client.aclose()

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            await self._look()

    async def _look(self) -> None:
        self._pages.append((await self._client.get("/metrics")).text)

    def seen(self) -> dict[str, float]:
        """The fields of `Measurement` that come from the metrics."""
        preemptions = [metric_sum(self._pages[index], "vllm:num_preemptions_total") for index in (0, -1)]
        return {
            "peak_kv_usage": max(metric_sum(page, "vllm:kv_cache_usage_perc") for page in self._pages),
            "num_preemptions": preemptions[1] - preemptions[0],
        }
