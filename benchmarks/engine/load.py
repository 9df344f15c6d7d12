"""Far more requests at once than the KV cache holds: what runs, how fast, and what the blocks hold meanwhile."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from statistics import fmean
from typing import Any

from attention_backend.request import REPORT
from benchmarks.engine.prompts import Prompt, PromptStream
from benchmarks.engine.step_engine import StepEngine


@dataclass(frozen=True, slots=True)
class Step:
    """One engine step under load.

    Attributes:
        seconds: wall clock.
        num_tokens: requests that got a token; those whose prompt is still in pieces get none.
        num_scheduled_tokens: positions that the model computed.
        num_waiting: requests for which there was no room.
        num_preempted: requests that lost their blocks.
        peak_kv_bytes: held while the model ran, full rows of prompts included.
        kv_bytes: held after it, when pruned blocks are free again.
    """

    seconds: float
    num_tokens: int
    num_scheduled_tokens: int
    num_waiting: int
    num_preempted: int
    peak_kv_bytes: int
    kv_bytes: int

    @property
    def is_full_cache_decode(self) -> bool:
        """Whether every request only decodes while others wait: the cache is full, and no prompt is computed."""
        return self.num_waiting > 0 and self.num_tokens == self.num_scheduled_tokens


class Load:
    """Requests that were all added at once, and the steps that they have had.

    Args:
        engine: idle.
        prompts: of the requests.
        point: `max_tokens` (what each generates) and `sparsity_p`.
    """

    def __init__(self, engine: StepEngine, prompts: list[Prompt], point: dict[str, Any]) -> None:
        self._engine = engine
        self._prompts = prompts
        start = time.perf_counter()
        self._ids = [engine.add(prompt, point["sparsity_p"], point["max_tokens"]) for prompt in prompts]
        self._seconds = time.perf_counter() - start
        self._steps: list[Step] = []
        self._rest = _steps(engine)

    def go_on(self, limit_s: float) -> bool:
        """Take steps until the limit has passed or no request is left; returns whether none is."""
        start = time.perf_counter()
        for step in self._rest:
            self._steps.append(step)
            if time.perf_counter() - start >= limit_s:
                break
        self._seconds += time.perf_counter() - start
        return not self._engine.running

    def row(self) -> dict[str, Any]:
        """The figures, when no request is left; pauses between steps are in none."""
        outputs = [self._engine.finished[request_id] for request_id in self._ids]
        num_tokens = sum(step.num_tokens for step in self._steps)
        return (
            {"seconds": self._seconds, "tokens_per_s": num_tokens / self._seconds}
            | summarise(self._steps)
            | reported(outputs)
            | {"accuracy": accuracy(self._engine, self._prompts, outputs)}
        )


def load(engine: StepEngine, prompts: PromptStream, point: dict[str, Any]) -> dict[str, Any]:
    """Run all requests of a point to their end, or for `slice_s` seconds of it; the same point again goes on then.

    Args:
        engine: idle, or in the middle of this point.
        prompts: questions or random tokens.
        point: `requests` and what `Load` takes of it; `slice_s` where it is to run in slices.
    """
    # Taken away meanwhile: what fails does not go on.
    begun, engine.load = engine.load, None
    if begun is None:
        begun = Load(engine, prompts.take(point["requests"]), point)
    if not begun.go_on(point.get("slice_s", inf)):
        engine.load = begun
        return {"is_done": False}
    row = begun.row()
    engine.clear()
    return row


def _steps(engine: StepEngine) -> Iterator[Step]:
    with _watched_schedule(engine) as watch:
        while engine.running:
            start = time.perf_counter()
            num_tokens = len(engine.step())
            yield Step(
                seconds=time.perf_counter() - start,
                num_tokens=num_tokens,
                num_waiting=len(engine.scheduler.waiting),
                kv_bytes=engine.kv_bytes,
                **watch,
            )


@contextmanager
def _watched_schedule(engine: StepEngine) -> Iterator[dict[str, int]]:
    """What the latest schedule says, as long as this is open: fields of `Step` that only it knows."""
    watch: dict[str, int] = {}
    schedule = engine.scheduler.schedule

    def watched(*args, **kwargs):
        scheduled = schedule(*args, **kwargs)
        watch["num_scheduled_tokens"] = scheduled.total_num_scheduled_tokens
        watch["num_preempted"] = len(scheduled.preempted_req_ids or ())
        watch["peak_kv_bytes"] = engine.kv_bytes
        return scheduled

    engine.scheduler.schedule = watched
    try:
        yield watch
    finally:
        engine.scheduler.schedule = schedule


def summarise(steps: list[Step]) -> dict[str, Any]:
    """Figures of all steps, and of those that decode with a full cache; the latter are null where there was none."""
    full = [step for step in steps if step.is_full_cache_decode]
    full_s = sum(step.seconds for step in full)
    seconds = sum(step.seconds for step in steps)
    return {
        "peak_running": max(step.num_tokens for step in steps),
        "preemptions": sum(step.num_preempted for step in steps),
        "peak_kv_bytes": max(step.peak_kv_bytes for step in steps),
        "mean_kv_bytes": sum(step.kv_bytes * step.seconds for step in steps) / seconds,
        "full_cache_steps": len(full),
        "full_cache_running": fmean(step.num_tokens for step in full) if full else None,
        "full_cache_tokens_per_s": sum(step.num_tokens for step in full) / full_s if full else None,
        "full_cache_step_ms": 1000 * full_s / len(full) if full else None,
        "kv_bytes_per_request": fmean(step.kv_bytes / step.num_tokens for step in full) if full else None,
    }


def reported(outputs: list[Any]) -> dict[str, float | None]:
    """Mean ratios of requests that were pruned or might have been; null for stock vLLM, which reports none."""
    reports = [output.kv_transfer_params[REPORT] for output in outputs if REPORT in (output.kv_transfer_params or {})]
    return {key: fmean(report[key] for report in reports) if reports else None for key in ("kv_ratio", "token_ratio")}


def accuracy(engine: StepEngine, prompts: list[Prompt], outputs: list[Any]) -> float | None:
    """Share of questions that were answered right before the model's own end token; None where nothing was asked."""
    if any(prompt.answer is None for prompt in prompts):
        return None
    tokenizer = engine.llm.get_tokenizer()

    def answer(output: Any) -> str:
        tokens = list(output.outputs[0].token_ids)
        end = tokens.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens else len(tokens)
        return tokenizer.decode(tokens[:end]).strip()

    return fmean(answer(output) == prompt.answer for prompt, output in zip(prompts, outputs, strict=True))
