"""One engine in a process of its own: `python -m benchmarks.engine.worker SPEC.json ROWS.jsonl`.

Measures the points of the specification one after the other, then those that come as JSON lines through the standard
input, until it ends. Appends a JSON line as soon as each is done, so that what was measured survives whatever happens
later. See `benchmarks/engine/engines.py` for the other side.
"""

import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine.measures import MEASURES
from benchmarks.engine.prompts import Prompts
from benchmarks.engine.step_engine import StepEngine
from benchmarks.gpu.budget import Budget
from benchmarks.gpu.device import copy_bandwidth
from benchmarks.gpu.dimensions import Dimensions


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
    return StepEngine(LLM(**arguments))


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


def measure(
    engine: StepEngine, prompts: Prompts, point: dict[str, Any], budget: Budget, dimensions: Dimensions | None
) -> dict[str, Any]:
    """The row of one point: its figures, or the error that took their place."""
    if refusal := budget.refusal(point_flops(point, planned_prompts(point), dimensions)):
        return point | {"error": refusal}
    try:
        row = MEASURES[point["kind"]](engine, prompts.of(point), point)
    # A point that fails must not take the others with it; one that breaks the engine ends the process in `clear`.
    except Exception as error:
        traceback.print_exc()
        engine.clear()
        return point | {"error": described(error)}
    if "prefill_s" in row:
        budget.record(point_flops(point, row["batch"], dimensions), row["prefill_s"])
    return point | row


def described(error: BaseException) -> str:
    """An error, and the one that caused it."""
    text = f"{type(error).__name__}: {error}"
    return f"{text} ({described(error.__cause__)})" if error.__cause__ else text


def points(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The points of the specification, then those that the other side sends while it waits for rows."""
    yield from spec["points"]
    for line in sys.stdin:
        yield json.loads(line)


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
    prompts = Prompts(engine.llm, spec["seed"])
    write({"kind": "start", "seconds": spec["limit_s"] - budget.remaining_s, "v2_model_runner": engine.is_v2})
    for point in points(spec):
        write(measure(engine, prompts, point, budget, dimensions))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
