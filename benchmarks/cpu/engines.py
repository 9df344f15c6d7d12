"""Ours and stock vLLM side by side, with equal arguments; and the check that must hold before anything is timed."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from benchmarks.cpu.models import BLOCK_SIZE, DTYPE, Model
from benchmarks.engine.engines import EngineProcess, specification
from benchmarks.engine.scenes import LIMITS
from benchmarks.errors import BenchmarkError

CHECKED_PROMPTS = 4
CHECKED_TOKENS = 12


class Pair(NamedTuple):
    """The two engines of a comparison, both ready."""

    stock: EngineProcess
    ours: EngineProcess


def engine_arguments(model: Model, kv_bytes: int, max_model_len: int, max_num_seqs: int) -> dict[str, Any]:
    """Arguments of `vllm.LLM` for both engines; what is not here is vLLM's own default."""
    return {
        "model": str(model.path),
        "dtype": DTYPE,
        "block_size": BLOCK_SIZE,
        "kv_cache_memory_bytes": kv_bytes,
        "max_model_len": max_model_len,
        "max_num_seqs": max_num_seqs,
        # No compiler, as the server starts the demo models.
        "enforce_eager": True,
        # Questions are asked again in every round.
        "enable_prefix_caching": False,
        "mm_processor_cache_gb": 0,
        "limit_mm_per_prompt": LIMITS,
        "disable_log_stats": True,
        "seed": 0,
    }


def stock_engine(model: Model, arguments: dict[str, Any], seed: int, what: str = "stock vLLM") -> EngineProcess:
    """vLLM without our plugin; it begins to start."""
    return EngineProcess(f"{what} with model {model.name}", specification(arguments, [], None, seed=seed))


def our_engine(model: Model, arguments: dict[str, Any], seed: int) -> EngineProcess:
    """vLLM with our backend and the options that are served by default; it begins to start."""
    return EngineProcess(f"Winnow with model {model.name}", specification(arguments, [], {}, seed=seed))


@contextmanager
def pair(model: Model, arguments: dict[str, Any], seed: int) -> Iterator[Pair]:
    """Both engines of a model.

    Raises:
        BenchmarkError: one of them does not start.
    """
    with ExitStack() as stack:
        engines = Pair(*(stack.enter_context(start(model, arguments, seed)) for start in (stock_engine, our_engine)))
        for engine in engines:
            engine.wait_until_ready()
        yield engines


def check_pair(engines: Pair, scenes: str, num_questions: int, sparsity_p: Sequence[float]) -> None:
    """At sparsity_p = 1 ours generates what stock vLLM generates; below, the scheduler holds what requests report.

    Args:
        engines: both idle.
        scenes: of the prompts that will be timed.
        num_questions: that were or will be rendered.
        sparsity_p: values that will be timed.

    Raises:
        BenchmarkError: it is not so; nothing must be timed then.
    """
    point = {"kind": "check", "scenes": scenes, "num_questions": num_questions}
    point |= {"count": min(CHECKED_PROMPTS, num_questions), "max_tokens": CHECKED_TOKENS}
    expected = engines.stock.measure(point | {"sparsity_p": 1.0})["token_ids"]
    for value in dict.fromkeys([1.0, *sparsity_p]):
        row = engines.ours.measure(point | {"sparsity_p": value})
        if value == 1.0 and row["token_ids"] != expected:
            raise BenchmarkError(
                f"{engines.ours.name} differs from stock vLLM at sparsity_p = 1: {_first(row['token_ids'], expected)} "
                f"({scenes}). Times of wrong results are worth nothing; mend it first."
            )
        if row["held_blocks"] != row["reported_blocks"]:
            raise BenchmarkError(
                f"{engines.ours.name} differs from its own reports at sparsity_p = {value:g}: KV blocks held and "
                f"reported are {_first(row['held_blocks'], row['reported_blocks'])} ({scenes}). Mend it first."
            )


def _first(found: list[Any], expected: list[Any]) -> str:
    """The first prompt where two lists differ."""
    index = next(i for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)) if ours != theirs)
    return f"{found[index]} against {expected[index]} for prompt {index}"
