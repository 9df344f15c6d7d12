"""The figures that two CPU cores are to reach with the demo models, and what results say to each."""

from collections.abc import Callable
from typing import Any

from benchmarks.cases.step_overhead import OURS, SHOWN
from benchmarks.targets import Results, Target, targets_table

# The model that was trained for few tokens, prompts of at least 1000 visual tokens, and the usual value.
SPARSE_MODEL, LONG_PROMPTS, USUAL_P = "demo-sparse", "pictures", 0.975


def _rows(results: Results, is_meant: Callable[[dict[str, Any]], bool], figure: str) -> list[dict[str, Any]]:
    """Rows of `capacity` with a figure.

    Raises:
        LookupError: there is none.
    """
    found = [row for row in results["capacity"].summary if row.get(figure) is not None and is_meant(row)]
    if not found:
        raise LookupError(f"capacity has no such row with {figure}")
    return found


def _least(figure: str, is_meant: Callable[[dict[str, Any]], bool]) -> Callable[[Results], float]:
    """The smallest value of a figure of `capacity`."""
    return lambda results: min(row[figure] for row in _rows(results, is_meant, figure))


def _is_pruned(row: dict[str, Any]) -> bool:
    return row["sparsity_p"] is not None and row["sparsity_p"] < 1.0


def _is_unpruned(row: dict[str, Any]) -> bool:
    return row["sparsity_p"] == 1.0


def _is_long_and_sparse(row: dict[str, Any]) -> bool:
    return (row["model"], row["scenes"], row["sparsity_p"]) == (SPARSE_MODEL, LONG_PROMPTS, USUAL_P)


def _requests_x_kv_ratio(results: Results) -> float:
    """The smallest product; generated tokens, which stay, are not in the KV ratio."""
    return min(row["running_vs_stock"] * row["kv_ratio"] for row in _rows(results, _is_pruned, "running_vs_stock"))


def _step_ratio(results: Results) -> float:
    """The largest median of ours / vLLM's AsyncScheduler."""
    rows = [row for row in results["step_overhead"].summary if (row["num_layers"], row["num_requests"]) == SHOWN]
    ratios = [row["ratio"] for row in rows if row["variant"] in OURS]
    if not ratios:
        raise LookupError(f"step_overhead has no row of {SHOWN}")
    return max(ratios)


TARGETS = (
    Target(
        "requests that run at once / stock, times the KV ratio of their prompts; least of all models, prompts and "
        "`sparsity_p` below 1",
        0.9,
        False,
        _requests_x_kv_ratio,
    ),
    Target(
        "requests that run at once in a full KV cache / stock, times bytes of each / stock, generated tokens included; "
        "least of all models, prompts and `sparsity_p` below 1",
        0.9,
        False,
        _least("full_cache_bytes_vs_stock", _is_pruned),
    ),
    Target(
        f"tokens per second while the KV cache is full / stock, {SPARSE_MODEL}, at least 1000 visual tokens, "
        f"`sparsity_p` {USUAL_P}",
        2.0,
        False,
        _least("full_cache_throughput_vs_stock", _is_long_and_sparse),
    ),
    Target(
        "tokens per second of a whole run at `sparsity_p = 1` / stock; least of all models and prompts",
        0.97,
        False,
        _least("throughput_vs_stock", _is_unpruned),
    ),
    Target(
        f"scheduler step / vLLM's, {SHOWN[0]} layers, {SHOWN[1]} requests; largest of dense and sparse requests",
        1.3,
        True,
        _step_ratio,
    ),
)


def cpu_targets(results: Results) -> str:
    """The table of these targets.

    Args:
        results: by case.
    """
    return targets_table(TARGETS, results)
