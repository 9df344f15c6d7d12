"""Figures of the comparisons with stock vLLM on a GPU."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.comparison import DENSE, SPARSE, STOCK
from benchmarks.plots import Points, line_figure
from measurement.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {STOCK: "stock vLLM", DENSE: "sparsity_p = 1", SPARSE: "fixed token ratio"}
CONTEXT = "context, tokens"


def over_context(rows: Iterable[dict[str, Any]], key: str) -> dict[str, Points]:
    """A figure of every mode over the prompt length, with its spread where rows have one.

    Args:
        rows: of one comparison, each with `mode` and `context`; rows without the figure are left out.
        key: name of the figure, such as "step_ms".
    """
    series: dict[str, Points] = {}
    measured = [row for row in rows if row.get(key) is not None]
    for mode, label in LABELS.items():
        if points := sorted((row for row in measured if row["mode"] == mode), key=lambda row: row["context"]):
            names = [name for name in (key, f"{key}_p20", f"{key}_p80") if name in points[0]]
            series[label] = tuple([row[name] for row in points] for name in ("context", *names))
    return series


def decode_figures(result: Result) -> "dict[str, Figure]":
    """Time of a decode step against context, one figure for every batch that was measured at several contexts."""
    rows = [row for row in result.summary if row["kind"] == "decode" and "error" not in row]
    figures = {}
    for batch in sorted({row["batch"] for row in rows}):
        of_batch = [row for row in rows if row["batch"] == batch]
        if len({row["context"] for row in of_batch}) > 1:
            title = f"Decode step, batch {batch} (bands: p20 to p80)"
            series = over_context(of_batch, "step_ms")
            figures[f"decode-{batch}"] = line_figure(series, CONTEXT, "time per token, ms", title, log_x=True)
    return figures


def prefill_figures(result: Result) -> "dict[str, Figure]":
    """Time to the first token of one prompt against context."""
    if not (series := over_context((row for row in result.summary if row["kind"] == "prefill"), "prefill_ms")):
        return {}
    title = "Prefill of one prompt (bands: p20 to p80)"
    return {"prefill": line_figure(series, CONTEXT, "time to first token, ms", title, log_x=True, log_y=True)}


def full_cache_figures(result: Result) -> "dict[str, Figure]":
    """Concurrency and throughput of a full KV cache against context."""
    figures = {}
    for name, key, label in (
        ("requests", "batch", "running requests"),
        ("throughput", "tokens_per_s", "generated tokens per second"),
    ):
        if series := over_context((row for row in result.summary if "error" not in row), key):
            figures[name] = line_figure(series, CONTEXT, label, "Full KV cache of equal size", log_x=True, log_y=True)
    return figures
