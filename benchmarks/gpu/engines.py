"""Start `engine_worker` for an engine and collect its rows, within a time limit."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
_KILL_AFTER_S = 10.0
_LOG_CHARACTERS = 3000


class EngineRun(NamedTuple):
    """What an engine process left behind.

    Attributes:
        rows: finished points, in order.
        error: why it ended early, with the end of its log; None when it did not.
    """

    rows: list[dict[str, Any]]
    error: str | None


def run_engine(spec: dict[str, Any], limit_s: float) -> EngineRun:
    """Measure one engine in a process of its own.

    Args:
        spec: of `specification`.
        limit_s: the process is ended after this time; rows it has written until then are kept.
    """
    if limit_s <= 0:
        return EngineRun([], "The engine was not started: no time was left.")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("spec.json", "rows.jsonl", "log.txt")]
        spec_path, rows_path, log_path = paths
        spec_path.write_text(json.dumps(spec | {"limit_s": limit_s}), encoding="utf-8")
        rows_path.touch()
        command = [sys.executable, "-m", "benchmarks.gpu.engine_worker", str(spec_path), str(rows_path)]
        with log_path.open("w") as log:
            error = _wait(subprocess.Popen(command, cwd=ROOT, env=_environment(spec), stdout=log, stderr=log), limit_s)
        rows = [json.loads(line) for line in rows_path.read_text(encoding="utf-8").splitlines()]
        if error is not None:
            error = f"{error} {log_path.read_text(errors='replace')[-_LOG_CHARACTERS:]}"
        return EngineRun(rows, error)


def specification(
    engine: dict[str, Any],
    points: list[dict[str, Any]],
    sparsity: dict[str, Any] | None = None,
    dimensions: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What `engine_worker` reads.

    Args:
        engine: arguments of `vllm.LLM`.
        points: what to measure; `kind` names the measure, the rest are its arguments.
        sparsity: fields of `SparsityConfig`; None starts stock vLLM.
        dimensions: folder under `benchmarks/models`, for the time budget; None for other models.
        seed: of made-up prompts.
    """
    return {"engine": engine, "points": points, "sparsity": sparsity, "dimensions": dimensions, "seed": seed}


def _environment(spec: dict[str, Any]) -> dict[str, str]:
    # The engine core lives in the measuring process, which looks at its blocks and profiles its kernels.
    environment = os.environ | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if spec["sparsity"] is None:
        # No plugin: the baseline is vLLM as it comes.
        environment["VLLM_PLUGINS"] = ""
    return environment


def _wait(process: subprocess.Popen, limit_s: float) -> str | None:
    """Wait for the end of a process; returns what was wrong with it."""
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(_KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return f"The engine was ended after its limit of {limit_s:.0f} s."
    return None if code == 0 else f"The engine ended with status {code}."
