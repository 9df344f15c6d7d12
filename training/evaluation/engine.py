"""A checkpoint under vLLM with this project's backend, in this process.

vLLM is imported here, so that what training reaches is measured by the code that serves it, pruned KV cache and all.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from tqdm import tqdm

from attention_backend import REPORT, SPARSITY_P, SparsityConfig, engine_args
from attention_backend.config import Selection
from training.evaluation.questions import Question

# Media of so many questions are in memory at a time.
CHUNK = 64

# Without it the engine is killed at once, and leaves its shared memory behind.
STOP_LIMIT_S = 30.0

# As the server serves the demo model.
DEMO_OPTIONS = {"max_model_len": 4096, "max_num_seqs": 64, "enforce_eager": True}
DEMO_CPU_OPTIONS = {"dtype": "float32", "block_size": 32, "kv_cache_memory_bytes": 1 << 30}
DEMO_ENVIRONMENT = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}


class Answer(NamedTuple):
    """What the model answered, and what pruning did to the prompt."""

    text: str
    token_ratio: float
    kv_ratio: float
    num_prompt_tokens: int


class ServedModel:
    """An engine that answers questions greedily."""

    def __init__(self, model: str, selection: Selection, max_tokens: int, options: dict[str, Any]):
        # vLLM reads it when it is imported: its INFO lines would tear the progress bar.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        from vllm import LLM

        config = SparsityConfig(selection=selection)
        # Each picture is seen once per value of sparsity_p; the cache would only take memory.
        defaults = {"mm_processor_cache_gb": 0, "disable_log_stats": True}
        self._llm = LLM(**engine_args(config, model=model, **(defaults | options)))
        self._max_tokens = max_tokens

    def answer(self, questions: Sequence[Question], sparsity_p: float) -> list[Answer]:
        """Ask every question once; answers are in the order of questions."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=self._max_tokens, extra_args={SPARSITY_P: sparsity_p})
        answers: list[Answer] = []
        with tqdm(total=len(questions), desc=f"sparsity_p {sparsity_p:g}", unit="question") as progress:
            for start in range(0, len(questions), CHUNK):
                messages = [question.messages() for question in questions[start : start + CHUNK]]
                answers += map(_answer, self._llm.chat(messages, params, use_tqdm=False))
                progress.update(len(messages))
        return answers

    def close(self) -> None:
        """End the engine's process, so that the next engine has the memory."""
        self._llm.llm_engine.engine_core.shutdown(timeout=STOP_LIMIT_S)


def _answer(output: Any) -> Answer:
    report = output.kv_transfer_params[REPORT]
    return Answer(output.outputs[0].text, report["token_ratio"], report["kv_ratio"], report["num_prompt_tokens"])


@contextmanager
def served(model: str, selection: Selection, max_tokens: int, options: dict[str, Any]) -> Iterator[ServedModel]:
    """A `ServedModel` that is closed at the end."""
    engine = ServedModel(model, selection, max_tokens, options)
    try:
        yield engine
    finally:
        engine.close()


def demo_options() -> dict[str, Any]:
    """Options that the server gives the demo model on this machine; also sets its environment variables."""
    for name, value in DEMO_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform

    return DEMO_OPTIONS if current_platform.is_cuda() else DEMO_OPTIONS | DEMO_CPU_OPTIONS
