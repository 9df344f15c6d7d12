"""A vLLM engine inside this process, driven step by step: admit requests, time decode steps, look at its blocks."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import torch

from attention_backend.request import SPARSITY_P
from benchmarks.engine.prompts import Prompt, PromptStream

WARMUP_STEPS = 8
# Whole prompts are prefilled in one step each, so every step starts one, but for those still in flight.
MAX_IDLE_STEPS = 8


class HostClock:
    """Host time inside the scheduler and the worker's launch path.

    Waiting for the GPU is not in it: outputs are fetched elsewhere.
    """

    def __init__(self, core: Any) -> None:
        self._elapsed_s = 0.0
        for owner, name in (
            (core.scheduler, "schedule"),
            (core.scheduler, "update_from_output"),
            (core.model_executor, "execute_model"),
            (core.model_executor, "sample_tokens"),
        ):
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function: Callable) -> Callable:
        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._elapsed_s += time.perf_counter() - start

        return timed

    def take_ms(self) -> float:
        """Milliseconds since the last call."""
        elapsed_s, self._elapsed_s = self._elapsed_s, 0.0
        return elapsed_s * 1000


class StepEngine:
    """Requests on one engine.

    Args:
        llm: a `vllm.LLM` whose engine core is in this process.

    Attributes:
        running: generated tokens by request, in the order they were added; waiting requests have 0.
        finished: the last outputs of requests that came to their end, by request, since `clear`.
        load: what runs in slices and is not at its end, see `benchmarks/engine/load.py`.
    """

    def __init__(self, llm: Any) -> None:
        self.llm = llm
        self._engine = llm.llm_engine
        self._core = self._engine.engine_core.engine_core
        self._host = HostClock(self._core)
        self._ids = count()
        self.running: dict[str, int] = {}
        self.finished: dict[str, Any] = {}
        self.load: Any = None

    @property
    def is_v2(self) -> bool:
        """Whether Model Runner V2 runs."""
        return self._engine.vllm_config.use_v2_model_runner

    @property
    def scheduler(self) -> Any:
        return self._core.scheduler

    @property
    def num_groups(self) -> int:
        """Blocks that one block's worth of tokens takes: one of each KV cache group."""
        return len(self.scheduler.kv_cache_config.kv_cache_groups)

    @property
    def block_size(self) -> int:
        return self.scheduler.block_size

    @property
    def num_free_blocks(self) -> int:
        return self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()

    @property
    def num_held_blocks(self) -> int:
        """Blocks that requests hold; block 0 is the null block."""
        return self.scheduler.kv_cache_config.num_blocks - 1 - self.num_free_blocks

    @property
    def kv_bytes(self) -> int:
        """Bytes of the blocks that requests hold."""
        config = self.scheduler.kv_cache_config
        # Every tensor names the whole allocation; with a group per layer they alias each other.
        return self.num_held_blocks * (config.kv_cache_tensors[0].size // config.num_blocks)

    def admit(self, prompts: Sequence[Prompt], sparsity_p: float, max_tokens: int) -> float:
        """Add requests and step until each has its first token; returns the seconds that took.

        Raises:
            RuntimeError: the engine has no room for all of them.
        """
        start = time.perf_counter()
        waiting = {self.add(prompt, sparsity_p, max_tokens) for prompt in prompts}
        idle_steps = 0
        while waiting:
            started = waiting & self.step()
            waiting -= started
            idle_steps = 0 if started else idle_steps + 1
            if idle_steps > MAX_IDLE_STEPS:
                raise RuntimeError(f"{len(waiting)} requests do not start: the KV cache is too small for this point.")
        return time.perf_counter() - start

    def add(self, prompt: Prompt, sparsity_p: float, max_tokens: int) -> str:
        """Hand over a request that generates exactly so many tokens, greedily; returns its id."""
        from vllm import SamplingParams

        params = SamplingParams(
            max_tokens=max_tokens,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            extra_args={SPARSITY_P: sparsity_p} if sparsity_p < 1.0 else None,
        )
        request_id = f"request-{next(self._ids)}"
        self.running[request_id] = 0
        self._engine.add_request(request_id, prompt.content, params)
        return request_id

    def step(self) -> set[str]:
        """One engine step; returns the requests that got a token.

        Raises:
            RuntimeError: a request ended otherwise than by its length.
        """
        outputs = self._engine.step()
        for output in outputs:
            if output.finished:
                del self.running[output.request_id]
                self.finished[output.request_id] = output
                if (reason := output.outputs[0].finish_reason) != "length":
                    raise RuntimeError(
                        f"{output.request_id} ended with finish reason {reason!r}; see the engine's log."
                    )
            else:
                self.running[output.request_id] = len(output.outputs[0].token_ids)
        return {output.request_id for output in outputs}

    def decode(self, num_steps: int) -> tuple[list[float], list[float], float]:
        """Time steps in which all running requests decode.

        Returns:
            Wall-clock milliseconds between the outputs of successive steps, host milliseconds of each, and the mean
            number of tokens that a request had generated.

        Raises:
            RuntimeError: a request was preempted, so the steps were not pure decoding.
        """
        for _ in range(WARMUP_STEPS):
            self.step()
        generated_before = self._mean_generated()
        self._host.take_ms()
        step_ms, host_ms, last = [], [], time.perf_counter()
        while len(step_ms) < num_steps:
            if len(self.step()) != len(self.running):
                raise RuntimeError(
                    "A step gave no token to a running request: the KV cache is too small for this point."
                )
            now = time.perf_counter()
            step_ms.append((now - last) * 1000)
            host_ms.append(self._host.take_ms())
            last = now
        return step_ms, host_ms, (generated_before + self._mean_generated()) / 2

    def _mean_generated(self) -> float:
        return sum(self.running.values()) / len(self.running)

    def prefill(self, prompt: Prompt, sparsity_p: float) -> float:
        """Seconds from adding a request to its only token."""
        seconds = self.admit([prompt], sparsity_p, max_tokens=1)
        self._settle()
        return seconds

    def fill(self, prompts: PromptStream, sparsity_p: float, window: int, max_tokens: int) -> Iterator[float]:
        """Admit requests until the KV cache could not take another and let all of them generate `window` tokens.

        Yields:
            Seconds of every round of admissions.
        """
        config = self._engine.vllm_config.scheduler_config
        prompt_blocks = self.num_groups * (prompts.longest // self.block_size + 1)
        growth_blocks = self.num_groups * (window // self.block_size + 1)
        at_once = max(1, config.max_num_batched_tokens // (prompts.longest + 1))
        while True:
            free = self.num_free_blocks - growth_blocks * len(self.running)
            fitting = min(free // (prompt_blocks + growth_blocks), at_once, config.max_num_seqs - len(self.running))
            if fitting < 1:
                return
            yield self.admit(prompts.take(fitting), sparsity_p, max_tokens)

    def clear(self) -> None:
        """Abort everything."""
        self._engine.abort_request(list(self.running))
        self.running.clear()
        self.finished.clear()
        self._settle()

    def _settle(self) -> None:
        """Let the step that is still in flight come back, so that the next point starts on an idle engine."""
        while self._engine.has_unfinished_requests() or self._core.batch_queue:
            self._engine.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
