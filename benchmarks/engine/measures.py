"""What can be measured in an engine, by the kind of a point; each returns the figures of one row."""

from statistics import fmean
from typing import Any

from attention_backend.request import REPORT
from benchmarks.engine.load import load
from benchmarks.engine.prompts import PromptStream
from benchmarks.engine.step_engine import WARMUP_STEPS, StepEngine
from benchmarks.gpu import kernel_times
from benchmarks.gpu.answers import answers
from benchmarks.measure import spread

PROFILED_STEPS = 8
# A request must outlive its admission, the timed steps and the profiled ones.
MAX_TOKENS = 512


def decode(engine: StepEngine, prompts: PromptStream, point: dict[str, Any]) -> dict[str, Any]:
    """Whole decode steps of a given batch, or of as many requests as the KV cache holds where none is given."""
    sparsity_p, num_steps = point["sparsity_p"], point["steps"]
    if point["batch"]:
        prefill_s = engine.admit(prompts.take(point["batch"]), sparsity_p, MAX_TOKENS)
    else:
        window = WARMUP_STEPS + num_steps + PROFILED_STEPS + 4
        prefill_s = sum(engine.fill(prompts, sparsity_p, window, MAX_TOKENS))
    batch, kv_bytes = len(engine.running), engine.kv_bytes
    step_ms, host_ms, generated = engine.decode(num_steps)
    kernel_ms = kernel_times.profile(engine.step, PROFILED_STEPS)
    engine.clear()
    return {
        "batch": batch,
        "kv_bytes": kv_bytes,
        "generated_tokens": generated,
        "tokens_per_s": batch / spread(step_ms).median * 1000,
        "host_ms": spread(host_ms).median,
        "prefill_s": prefill_s,
        "prompt_tokens": prompts.mean_tokens,
        **_times("step", step_ms, kernel_ms),
    }


def prefill(engine: StepEngine, prompts: PromptStream, point: dict[str, Any]) -> dict[str, Any]:
    """The whole way from a prompt to its first token, one prompt at a time."""
    sparsity_p = point["sparsity_p"]

    def first_token_s() -> float:
        (prompt,) = prompts.take(1)
        return engine.prefill(prompt, sparsity_p)

    first_token_s()
    times_s = [first_token_s() for _ in range(point["repeats"])]
    kernel_ms = kernel_times.profile(first_token_s, 1) if point["profile"] else None
    engine.clear()
    row = {"batch": 1, "prefill_s": fmean(times_s), "prompt_tokens": prompts.mean_tokens}
    return row | _times("prefill", [1000 * s for s in times_s], kernel_ms)


def _times(name: str, times_ms: list[float], kernel_ms: dict[str, float] | None) -> dict[str, Any]:
    """Figures that decode and prefill share; kernel times are null where nothing was profiled."""
    median, p20, p80 = spread(times_ms)
    row: dict[str, Any] = {f"{name}_ms": median, f"{name}_ms_p20": p20, f"{name}_ms_p80": p80}
    row |= {"attention_ms": None, "cache_write_ms": None, "kernels_ms": None}
    if kernel_ms:
        groups = kernel_times.group_times_ms(kernel_ms)
        row |= {"attention_ms": groups["attention"], "cache_write_ms": groups["cache_write"]}
        row |= {"kernels_ms": sum(groups.values()), "kernels": kernel_times.longest(kernel_ms)}
    return row | {"times_ms": [round(value, 4) for value in times_ms]}


def check(engine: StepEngine, prompts: PromptStream, point: dict[str, Any]) -> dict[str, Any]:
    """Prompts that run alone: their tokens, the blocks they hold once they decode, and the blocks they report.

    Args:
        engine: idle, with a KV cache group per layer where it is ours.
        prompts: to take `count` of.
        point: `count`, `max_tokens` (at least 2) and `sparsity_p`.
    """
    tokens, held, kept = [], [], []
    for prompt in prompts.take(point["count"]):
        num_free = engine.num_free_blocks
        engine.admit([prompt], point["sparsity_p"], point["max_tokens"])
        held.append(num_free - engine.num_free_blocks)
        while engine.running:
            engine.step()
        (output,) = engine.finished.values()
        engine.clear()
        tokens.append(list(output.outputs[0].token_ids))
        report = (output.kv_transfer_params or {}).get(REPORT)
        kept.append(report and _kept_blocks(report, engine.block_size))
    return {"token_ids": tokens, "held_blocks": held, "reported_blocks": kept}


def _kept_blocks(report: dict[str, Any], block_size: int) -> int:
    """Blocks that the reported numbers of kept tokens need; the one that takes the next token always stays."""
    num_full, num_rest = divmod(report["num_prompt_tokens"], block_size)
    return sum(
        min(-(-num_kept // block_size), num_full) + bool(num_rest) for num_kept in report["kept_tokens_per_layer"]
    )


MEASURES = {
    "decode": decode,
    "prefill": prefill,
    "load": load,
    "check": check,
    "answers": lambda engine, prompts, point: answers(engine.llm, point),
}
