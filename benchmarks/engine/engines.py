"""Start the engine worker and collect its rows: all points at once within a time limit, or one point at a time."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import BenchmarkError

ROOT = Path(__file__).parents[2]
START_LIMIT_S = 600.0
POINT_LIMIT_S = 1800.0
_KILL_AFTER_S = 10.0
_STOP_AFTER_S = 30.0
_POLL_S = 0.02
_LOG_CHARACTERS = 3000
# The last line of a traceback, or the sentence of pydantic under it without its appendix.
_TELLING = re.compile(r"(?:^|\s)(?P<reason>(?:[\w.]*(?:Error|Exception)|Value error)[:,] .+?)(?: \[type=.*)?$")


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
        files = _Files(Path(folder))
        error = _wait(_start(spec, limit_s, files, subprocess.DEVNULL), limit_s)
        if error is not None:
            error = f"{error} {files.log.read_text(errors='replace')[-_LOG_CHARACTERS:]}"
        return EngineRun(files.read_rows(), error)


class EngineProcess:
    """An engine that measures what it is asked to, point by point, and waits in between.

    A context manager: it starts at once, so that several can start side by side, and ends at the end.

    Args:
        name: for messages, such as "stock vLLM with model demo".
        spec: of `specification`.
    """

    def __init__(self, name: str, spec: dict[str, Any]) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory()
        self._files = _Files(Path(self._folder.name))
        self._num_rows = 0
        self._is_ready = False
        self._process = _start(spec, START_LIMIT_S + POINT_LIMIT_S, self._files, subprocess.PIPE)

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *error: Any) -> None:
        """End the process."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_AFTER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def wait_until_ready(self) -> None:
        """Return when the model is loaded.

        Raises:
            BenchmarkError: the process ended instead, or takes too long.
        """
        if not self._is_ready:
            self._next_row(START_LIMIT_S)
            self._is_ready = True

    def measure(self, point: dict[str, Any]) -> dict[str, Any]:
        """The row of one point.

        Raises:
            BenchmarkError: the point failed, or the process ended.
        """
        self.wait_until_ready()
        # Where the process has ended, waiting for the row says why.
        with suppress(BrokenPipeError):
            self._process.stdin.write((json.dumps(point) + "\n").encode())
            self._process.stdin.flush()
        row = self._next_row(POINT_LIMIT_S)
        if "error" in row:
            raise BenchmarkError(f"{self.name} cannot measure {point['kind']}: {row['error']}")
        return row

    def _next_row(self, limit_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            has_ended = self._process.poll() is not None
            if len(rows := self._files.read_rows()) > self._num_rows:
                self._num_rows += 1
                return rows[self._num_rows - 1]
            if has_ended:
                raise BenchmarkError(f"{self.name} ended with status {self._process.returncode}: {self._reason()}")
            time.sleep(_POLL_S)
        raise BenchmarkError(f"{self.name} said nothing for {limit_s:.0f} s: {self._reason()}")

    def _reason(self) -> str:
        return telling_line(self._files.log.read_text(errors="replace"))


def telling_line(log: str) -> str:
    """The line of a log that says most: the last error, else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if errors := [found["reason"] for line in lines if (found := _TELLING.search(line))]:
        return errors[-1]
    return lines[-1] if lines else "it said nothing."


def specification(
    engine: dict[str, Any],
    points: list[dict[str, Any]],
    sparsity: dict[str, Any] | None = None,
    dimensions: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What the engine worker reads.

    Args:
        engine: arguments of `vllm.LLM`.
        points: what to measure; `kind` names the measure, the rest are its arguments.
        sparsity: fields of `SparsityConfig`; None starts stock vLLM.
        dimensions: folder under `benchmarks/models`, for the time budget; None for other models.
        seed: of made-up prompts and of held-out questions.
    """
    return {"engine": engine, "points": points, "sparsity": sparsity, "dimensions": dimensions, "seed": seed}


class _Files:
    """What the two sides share."""

    def __init__(self, folder: Path) -> None:
        self.spec, self.rows, self.log = (folder / name for name in ("spec.json", "rows.jsonl", "log.txt"))
        self.rows.touch()

    def read_rows(self) -> list[dict[str, Any]]:
        """Rows that are complete."""
        lines = self.rows.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _start(spec: dict[str, Any], limit_s: float, files: _Files, stdin: int) -> subprocess.Popen:
    files.spec.write_text(json.dumps(spec | {"limit_s": limit_s}), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.engine.worker", str(files.spec), str(files.rows)]
    with files.log.open("w") as log:
        return subprocess.Popen(command, cwd=ROOT, env=_environment(spec), stdin=stdin, stdout=log, stderr=log)


def _environment(spec: dict[str, Any]) -> dict[str, str]:
    # The engine core lives in the measuring process, which looks at its blocks and profiles its kernels.
    environment = os.environ | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        # Threads are left to the operating system, as the server leaves them for the demo models.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    if "kv_cache_memory_bytes" in spec["engine"]:
        # It would win over that size.
        environment.pop("VLLM_CPU_KVCACHE_SPACE", None)
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
