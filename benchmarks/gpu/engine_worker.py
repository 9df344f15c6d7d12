"""One engine in a process of its own: `python -m benchmarks.gpu.engine_worker SPEC.json ROWS.jsonl`.

Measures the points of the specification one after the other and appends a JSON line as soon as each is done, so that
what was measured survives whatever happens later. See `benchmarks/gpu/engines.py` for the other side.
"""

import json
import sys
import traceback
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.gpu import kernel_times
from benchmarks.gpu.answers import answers
from benchmarks.gpu.budget import Budget
from benchmarks.gpu.device import copy_bandwidth
from benchmarks.gpu.dimensions import Dimensions
from benchmarks.gpu.step_engine import WARMUP_STEPS, StepEngine
from benchmarks.measure import spread

PROFILED_STEPS = 8
# A request must outlive its admission, the timed steps and the profiled ones.
MAX_TOKENS = 512


def start(spec: dict[str, Any]) -> StepEngine:
    """The engine of a specification: stock vLLM without `sparsity`, ours with it."""
    from vllm import LLM

    arguments = spec["engine"]
    if spec["sparsity"] is not None:
        from attention_backend import SparsityConfig, engine_args
        from attention_backend.plugin import register

        # A checkout that is not installed has no entry point that vLLM could find.
        register()
        arguments = engine_args(SparsityConfig(**spec["sparsity"]), **arguments)
    return StepEngine(LLM(**arguments), spec["seed"])


def decode(engine: StepEngine, point: dict[str, Any]) -> dict[str, Any]:
    """Whole decode steps of a given batch, or of as many requests as the KV cache holds where none is given."""
    context, sparsity_p, num_steps = point["context"], point["sparsity_p"], point["steps"]
    if point["batch"]:
        prefill_s = engine.admit(point["batch"], context, sparsity_p, MAX_TOKENS)
    else:
        window = WARMUP_STEPS + num_steps + PROFILED_STEPS + 4
        prefill_s = sum(engine.fill(context, sparsity_p, window, MAX_TOKENS))
    batch, kv_bytes = len(engine.running), engine.kv_bytes
    step_ms, host_ms, generated = engine.decode(num_steps)
    kernel_ms = kernel_times.profile(engine.step_once, PROFILED_STEPS)
    engine.clear()
    return {
        "batch": batch,
        "kv_bytes": kv_bytes,
        "generated_tokens": generated,
        "tokens_per_s": batch / spread(step_ms).median * 1000,
        "host_ms": spread(host_ms).median,
        "prefill_s": prefill_s,
        **_times("step", step_ms, kernel_ms),
    }


def prefill(engine: StepEngine, point: dict[str, Any]) -> dict[str, Any]:
    """The whole way from a prompt to its first token, one prompt at a time."""
    context, sparsity_p = point["context"], point["sparsity_p"]
    engine.prefill(context, sparsity_p)
    times_s = [engine.prefill(context, sparsity_p) for _ in range(point["repeats"])]
    kernel_ms = kernel_times.profile(lambda: engine.prefill(context, sparsity_p), 1) if point["profile"] else None
    return {"batch": 1, "prefill_s": fmean(times_s), **_times("prefill", [1000 * s for s in times_s], kernel_ms)}


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


MEASURES = {"decode": decode, "prefill": prefill, "answers": lambda engine, point: answers(engine.llm, point)}


def point_flops(point: dict[str, Any], num_prompts: int, dimensions: Dimensions | None) -> float:
    """Operations of that many prompts of a point; 0 for models whose time does not matter."""
    if dimensions is None or "context" not in point:
        return 0.0
    return num_prompts * dimensions.prefill_flops(point["context"], point["expected_ratio"])


def planned_prompts(point: dict[str, Any]) -> int:
    """Prompts that a point will prefill, for the budget."""
    if point["kind"] == "prefill":
        return 1 + point["repeats"] + point["profile"]
    return point.get("batch") or point.get("expected_batch", 0)


def measure(engine: StepEngine, point: dict[str, Any], budget: Budget, dimensions: Dimensions | None) -> dict[str, Any]:
    """The row of one point: its figures, or the error that took their place."""
    if refusal := budget.refusal(point_flops(point, planned_prompts(point), dimensions)):
        return point | {"error": refusal}
    try:
        row = MEASURES[point["kind"]](engine, point)
    # A point that fails must not take the others with it; one that breaks the engine ends the process in `clear`.
    except Exception as error:
        traceback.print_exc()
        engine.clear()
        return point | {"error": f"{type(error).__name__}: {error}"}
    if "prefill_s" in row:
        budget.record(point_flops(point, row["batch"], dimensions), row["prefill_s"])
    return point | row


def main(spec_path: Path, rows_path: Path) -> None:
    """Measure everything that a specification asks for."""
    spec = json.loads(spec_path.read_text(encoding="utf-8"))
    dimensions = Dimensions.read(spec["dimensions"]) if spec["dimensions"] else None
    budget = Budget(spec["limit_s"])

    def write(row: dict[str, Any]) -> None:
        with rows_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    if torch.cuda.is_available() and dimensions is not None:
        write({"kind": "bandwidth", "bytes_per_s": copy_bandwidth()})
    engine = start(spec)
    write({"kind": "start", "seconds": spec["limit_s"] - budget.remaining_s, "v2_model_runner": engine.is_v2})
    for point in spec["points"]:
        write(measure(engine, point, budget, dimensions))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
