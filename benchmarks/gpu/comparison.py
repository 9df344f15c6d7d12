"""The same points on stock vLLM and on ours, with the bound of counted bytes beside every decode step."""

import math
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.engine.engines import run_engine, specification
from benchmarks.gpu.dimensions import MODELS, Dimensions
from benchmarks.gpu.tables import error_line

# Longest prompt plus what it generates; the models' own limit.
MAX_MODEL_LEN = 128_000
# What "sparse" requests ask for; selection "fixed" only looks whether it is below 1.
SPARSE_P = 0.5
STOCK, DENSE, SPARSE = "stock", "dense", "sparse"
UNITS = {
    "step_ms": "ms per decode step, wall clock",
    "prefill_ms": "ms from a prompt to its first token",
    "host_ms": "ms per step in scheduler and launch path",
    "attention_ms": "ms per step or prefill in attention kernels",
    "cache_write_ms": "ms per step or prefill in kernels that write the KV cache",
    "kernels_ms": "ms per step or prefill in all kernels",
    "batch": "requests",
    "generated_tokens": "tokens that a request had generated, mean",
    "kv_bytes": "bytes of the KV blocks that requests hold",
    "bound_ms": "ms to read weights and KV once at the copy bandwidth",
    "share_of_bound": "bound_ms / step_ms",
    "attention_share_of_bound": "ms to read KV once at the copy bandwidth / attention_ms",
    "speedup": "tokens or prompts per second / those of stock",
    "tokens_per_s": "generated tokens per second",
    "copy_bandwidth": "bytes read and written per second",
    "times_ms": "ms",
}


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to measure.

    Attributes:
        kind: "decode" or "prefill".
        context: prompt tokens.
        batch: requests; 0 for as many as the KV cache holds.
        modes: stock vLLM, ours with sparsity_p = 1 ("dense"), ours with the fixed token ratio ("sparse").
        repeats: prefills that are timed.
    """

    kind: str
    context: int
    batch: int = 1
    modes: tuple[str, ...] = (STOCK, SPARSE)
    repeats: int = 3

    @property
    def name(self) -> str:
        batch = self.batch or "full"
        return f"prefill {self.context}" if self.kind == "prefill" else f"decode {self.context} x {batch}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What all points of a comparison share.

    Attributes:
        model: folder under `benchmarks/models`.
        kv_cache_bytes: of either engine.
        max_num_seqs: of either engine.
        capture_sizes: batch sizes that get a CUDA graph.
        token_ratio: kept by "sparse" requests.
        steps: decode steps that are timed.
        limit_s: for both engines together.
        seed: of the prompts.
    """

    model: str
    kv_cache_bytes: int
    max_num_seqs: int
    capture_sizes: tuple[int, ...]
    token_ratio: float
    steps: int
    limit_s: float
    seed: int


def engine_arguments(setting: Setting) -> dict[str, Any]:
    """Arguments of `vllm.LLM` for both engines: true dimensions, random weights, whole prompts in one step."""
    return {
        "model": str(MODELS / setting.model),
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "language_model_only": True,
        "dtype": "bfloat16",
        "max_model_len": MAX_MODEL_LEN,
        "max_num_batched_tokens": MAX_MODEL_LEN,
        "max_num_seqs": setting.max_num_seqs,
        "block_size": 16,
        # Only a check of the free memory: the line below says what the KV cache takes.
        "gpu_memory_utilization": 0.5,
        "kv_cache_memory_bytes": setting.kv_cache_bytes,
        "enable_prefix_caching": False,
        "enable_chunked_prefill": False,
        "async_scheduling": True,
        "disable_log_stats": True,
        "seed": setting.seed,
        "compilation_config": {"cudagraph_capture_sizes": list(setting.capture_sizes)},
    }


def worker_points(points: list[Point], modes: tuple[str, ...], setting: Setting) -> list[dict[str, Any]]:
    """The points of some modes as the engine worker reads them, in order of importance."""
    dimensions = Dimensions.read(setting.model)
    rows = []
    for point in points:
        for mode in (mode for mode in modes if mode in point.modes):
            ratio = setting.token_ratio if mode == SPARSE else 1.0
            row = {"name": point.name, "mode": mode, "kind": point.kind, "context": point.context}
            row |= {"sparsity_p": SPARSE_P if mode == SPARSE else 1.0, "expected_ratio": ratio}
            if point.kind == "prefill":
                row |= {"repeats": point.repeats, "profile": point.context <= 32768}
            else:
                held = setting.kv_cache_bytes / (dimensions.kv_bytes_per_token * point.context * ratio)
                row |= {"batch": point.batch, "steps": setting.steps}
                row |= {"expected_batch": point.batch or min(setting.max_num_seqs, int(held))}
            rows.append(row)
    return rows


def compare(points: list[Point], setting: Setting) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Measure all points, first on stock vLLM, then on ours.

    Returns:
        Summary rows, samples, and facts of the machine: copy bandwidth, each engine's start and model runner.
    """
    end_s = time.monotonic() + setting.limit_s
    arguments = engine_arguments(setting)
    fixed = {"selection": "fixed", "fixed_token_ratio": setting.token_ratio}
    rows: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}
    for modes, sparsity, more, share in (
        ((STOCK,), None, {"attention_backend": "FLASH_ATTN"}, 0.5),
        ((SPARSE, DENSE), fixed, {}, 1.0),
    ):
        planned = worker_points(points, modes, setting)
        spec = specification(arguments | more, planned, sparsity, setting.model, setting.seed)
        run = run_engine(spec, share * (end_s - time.monotonic()))
        measured = [row for row in run.rows if "name" in row]
        for row in run.rows:
            if row["kind"] == "start":
                machine[f"start_s_{modes[0]}"] = row["seconds"]
                machine[f"v2_model_runner_{modes[0]}"] = row["v2_model_runner"]
            elif row["kind"] == "bandwidth":
                machine["copy_bandwidth"] = row["bytes_per_s"]
        missing = planned[len(measured) :]
        # The log stands in the first row that it is about.
        reason = run.error or "not measured"
        errors = [reason, *[f"not measured: {error_line(reason)}"] * len(missing)]
        rows += measured + [row | {"error": error} for row, error in zip(missing, errors, strict=False)]
    samples = [
        {"name": row["name"], "mode": row["mode"]} | {key: row[key] for key in ("times_ms", "kernels") if key in row}
        for row in rows
    ]
    return summarise(rows, Dimensions.read(setting.model), machine.get("copy_bandwidth")), samples, machine


def summarise(rows: list[dict[str, Any]], dimensions: Dimensions, copy_bandwidth: float | None) -> list[dict[str, Any]]:
    """Put the bound and the ratio to stock vLLM beside every figure."""
    stock = {row["name"]: row for row in rows if row["mode"] == STOCK}
    dropped = {
        "times_ms",
        "kernels",
        "expected_ratio",
        "expected_batch",
        "sparsity_p",
        "prefill_s",
        "repeats",
        "profile",
    }
    summary = []
    for row in rows:
        figures = {key: value for key, value in row.items() if key not in dropped}
        if row["kind"] == "decode" and "error" not in row and copy_bandwidth:
            kv_ms, weights_ms = read_ms(row, dimensions, copy_bandwidth)
            figures["bound_ms"] = kv_ms + weights_ms
            figures["share_of_bound"] = figures["bound_ms"] / row["step_ms"]
            if row["attention_ms"]:
                figures["attention_share_of_bound"] = kv_ms / row["attention_ms"]
        if (baseline := stock.get(row["name"])) and "error" not in row and "error" not in baseline:
            figures["speedup"] = _rate(row) / _rate(baseline)
        summary.append(figures)
    return summary


def _rate(row: dict[str, Any]) -> float:
    """Work per second: a full KV cache decodes batches of different size."""
    return 1000 / row["prefill_ms"] if row["kind"] == "prefill" else row["tokens_per_s"]


def read_ms(row: dict[str, Any], dimensions: Dimensions, copy_bandwidth: float) -> tuple[float, float]:
    """Milliseconds to read the keys and values of every kept or generated token once, and the weights once."""
    kept = math.ceil(row["expected_ratio"] * row["context"])
    kv_bytes = row["batch"] * (kept + row["generated_tokens"]) * dimensions.kv_bytes_per_token
    return kv_bytes / copy_bandwidth * 1000, dimensions.weight_bytes / copy_bandwidth * 1000
