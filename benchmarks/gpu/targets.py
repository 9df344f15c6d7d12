"""The figures that the CUDA path is to reach, and what a run says to each."""

from collections.abc import Callable
from typing import Any

from benchmarks.cases.gpu_prefill import COMMITTED_STAGES
from benchmarks.gpu.comparison import DENSE, SPARSE, STOCK
from benchmarks.targets import Results, Target, targets_table

STEP, PREFILL, MANY, FULL = "decode 32768 x 32", "prefill 32768", "decode 512 x 64", "decode 32768 x full"


def _row(results: Results, case: str, name: str, mode: str) -> dict[str, Any]:
    """A point's row, which must hold figures.

    Raises:
        LookupError: the case did not run, or the point failed.
    """
    for row in results[case].summary:
        if (row.get("name"), row.get("mode")) == (name, mode) and "error" not in row:
            return row
    raise LookupError(f"{case} has no figures of {name}, {mode}")


def _figure(case: str, name: str, mode: str, key: str) -> Callable[[Results], float]:
    def measure(results: Results) -> float:
        return _present(_row(results, case, name, mode), key)

    return measure


def _ratio(case: str, name: str, key: str) -> Callable[[Results], float]:
    """Sparse / stock."""
    return lambda results: _figure(case, name, SPARSE, key)(results) / _figure(case, name, STOCK, key)(results)


def _present(row: dict[str, Any], key: str) -> float:
    if row.get(key) is None:
        raise LookupError(f"no {key}")
    return row[key]


def bound_speedup(results: Results) -> float:
    """How much faster the sparse step could be if nothing but weights and KV were read, each once."""
    return 1 / _ratio("gpu_engine", STEP, "bound_ms")(results)


def _prefill_overhead(results: Results) -> float:
    rows = [row for row in results["gpu_prefill"].summary if row["context"] == 32768]
    shares = {row["stage"]: row["share_of_dense_attention"] for row in rows}
    return sum(shares[stage] for stage in COMMITTED_STAGES)


def _host_difference(results: Results) -> float:
    sparse, stock = (_figure("gpu_engine", MANY, mode, "host_ms")(results) for mode in (SPARSE, STOCK))
    return sparse - stock


_speedup = _figure("gpu_engine", STEP, SPARSE, "speedup")
TARGETS = (
    Target(
        "decode step at `sparsity_p = 1` / stock, 32 requests of 32k tokens",
        1.02,
        True,
        lambda results: 1 / _figure("gpu_engine", STEP, DENSE, "speedup")(results),
    ),
    Target("KV bytes / stock, there", 0.27, True, _ratio("gpu_engine", STEP, "kv_bytes")),
    Target("time in decode-attention kernels / stock, there", 0.32, True, _ratio("gpu_engine", STEP, "attention_ms")),
    Target(
        "whole decode step, times as fast as stock, there",
        2.2,
        False,
        _speedup,
        note=lambda results: f"bound from counted bytes: {bound_speedup(results):.2f}",
    ),
    Target(
        "share of that bound that is reached", 0.85, False, lambda results: _speedup(results) / bound_speedup(results)
    ),
    Target(
        "generated tokens per second of a full KV cache of equal size / stock, 32k tokens",
        3.3,
        False,
        _figure("gpu_capacity", FULL, SPARSE, "speedup"),
    ),
    Target(
        "prefill of 32k tokens, times as fast as stock", 1.25, False, _figure("gpu_engine", PREFILL, SPARSE, "speedup")
    ),
    Target("estimate + select + compact / dense attention, prefill of 32k tokens", 0.08, True, _prefill_overhead),
    Target(
        "host time per step in scheduler and metadata above stock, 28 layers, 64 requests",
        0.6,
        True,
        _host_difference,
        unit=" ms",
    ),
)


def gpu_targets(results: Results) -> str:
    """The table of these targets, with a warning where the kernels are wrong.

    Args:
        results: by case.
    """
    table = targets_table(TARGETS, results)
    checks = results["gpu_kernels"].summary if "gpu_kernels" in results else []
    if failed := sum(not row["passed"] for row in checks):
        table += f"\n\n**{failed} checks of kernel correctness failed: these times are of wrong results.**"
    return table
