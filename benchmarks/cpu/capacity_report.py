"""What the `capacity` case shows: its figures with their units, the table and the pictures."""

from typing import TYPE_CHECKING, Any

from benchmarks.cpu.cells import cell, share_of_mass, with_spread
from benchmarks.plots import Points, line_figure
from measurement.results import Result
from measurement.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Times, which differ from run to run, and figures that hardly do.
SPREAD_FIGURES = ("tokens_per_s", "full_cache_tokens_per_s", "full_cache_step_ms")
FIGURES = (
    *SPREAD_FIGURES,
    "peak_running",
    "full_cache_running",
    "preemptions",
    "peak_kv_bytes",
    "mean_kv_bytes",
    "kv_bytes_per_request",
    "kv_ratio",
    "token_ratio",
    "accuracy",
)
# Ratios to stock vLLM, and the figure they are of.
VERSUS = {
    "throughput_vs_stock": "tokens_per_s",
    "full_cache_throughput_vs_stock": "full_cache_tokens_per_s",
    "running_vs_stock": "peak_running",
    "full_cache_running_vs_stock": "full_cache_running",
    "kv_bytes_per_request_vs_stock": "kv_bytes_per_request",
}
UNITS = {
    "seconds": "s of a whole run",
    "tokens_per_s": "generated tokens per second of the whole run, prompts and the emptying cache included",
    "full_cache_tokens_per_s": "generated tokens per second of steps that only decode while requests wait for room",
    "full_cache_step_ms": "ms per such step",
    "peak_running": "most requests that got a token in one step",
    "full_cache_running": "requests per step that only decodes while others wait, mean",
    "preemptions": "requests that lost their blocks and began again",
    "peak_kv_bytes": "bytes of the KV blocks that requests hold, at most",
    "mean_kv_bytes": "bytes of the KV blocks that requests hold, mean over time",
    "kv_bytes_per_request": "bytes of KV blocks / running requests, while the cache is full",
    "kv_ratio": "KV blocks kept / KV blocks, mean over requests",
    "token_ratio": "tokens kept / tokens, mean over requests",
    "accuracy": "share of right answers",
    "throughput_vs_stock": "tokens_per_s / that of stock vLLM in the same turn",
    "full_cache_throughput_vs_stock": "full_cache_tokens_per_s / that of stock vLLM in the same turn",
    "running_vs_stock": "peak_running / that of stock vLLM",
    "full_cache_running_vs_stock": "full_cache_running / that of stock vLLM",
    "kv_bytes_per_request_vs_stock": "kv_bytes_per_request / that of stock vLLM",
    "full_cache_bytes_vs_stock": "the product of these two; 1 where every freed byte serves another request",
}
_HEADER = (
    "model, prompts",
    "engine",
    "`sparsity_p`",
    "running requests",
    "vs. stock",
    "x bytes",
    "full cache, tokens/s",
    "vs. stock (p20 to p80)",
    "whole run, tokens/s",
    "vs. stock (p20 to p80)",
    "preemptions",
    "KV per request, kB",
    "KV peak, mean, MB",
    "KV ratio",
    "right answers",
)
_REGIMES = (
    "Full cache: steps that only decode while requests wait for room. Whole run: prompts and the emptying cache at the "
    "end included. Running requests: most that got a token in one step. x bytes: mean number of requests in a full "
    "cache times the bytes of each, generated tokens included, / stock; 1 where every freed byte serves another."
)


def capacity_table(result: Result) -> str:
    """A row per model, kind of prompt, engine and value of sparsity_p; what a platform lacks says why."""
    rows, notes = [], []
    for row in result.summary:
        where = [f"{row['model']}, {row['scenes']}", row["engine"]]
        if "error" in row:
            rows.append([*where, *["-"] * (len(_HEADER) - 2)])
            notes.append(f"- {row['engine']}, {row['scenes']}: {row['error']}")
        else:
            rows.append([*where, *_cells(row)])
    return "\n\n".join([markdown_table(_HEADER, rows), _REGIMES, *(["\n".join(notes)] if notes else [])])


def _cells(row: dict[str, Any]) -> list[str]:
    per_request = row["kv_bytes_per_request"]
    return [
        share_of_mass(row["sparsity_p"]),
        cell(row["peak_running"], 0),
        cell(row.get("running_vs_stock")),
        cell(row.get("full_cache_bytes_vs_stock")),
        cell(row["full_cache_tokens_per_s"], 0),
        with_spread(row, "full_cache_throughput_vs_stock"),
        cell(row["tokens_per_s"], 0),
        with_spread(row, "throughput_vs_stock"),
        cell(row["preemptions"], 0),
        cell(per_request and per_request / 1e3, 0),
        f"{row['peak_kv_bytes'] / 1e6:.1f}, {row['mean_kv_bytes'] / 1e6:.1f}",
        cell(row["kv_ratio"]),
        cell(row["accuracy"]),
    ]


def capacity_figures(result: Result) -> "dict[str, Figure]":
    """Concurrency, throughput in both regimes and KV bytes of a request over sparsity_p, for each kind of prompt."""
    measured = [row for row in result.summary if "error" not in row]
    figures = {}
    for scenes in dict.fromkeys(row["scenes"] for row in measured):
        rows = [row for row in measured if row["scenes"] == scenes]
        for name, key, scale, label, title in (
            (
                "requests",
                "peak_running",
                1.0,
                "running requests",
                "Requests that run at once in a KV cache of equal size",
            ),
            ("kv-bytes", "kv_bytes_per_request", 1e-3, "KV blocks, kB", "KV memory of a running request"),
            ("full-cache", "full_cache_tokens_per_s", 1.0, "tokens per second", "Decoding while the cache is full"),
            ("whole-run", "tokens_per_s", 1.0, "tokens per second", "Whole run, prompts included"),
        ):
            if series := _over_sparsity_p(rows, key, scale):
                title = f"{title}, {scenes} (bands: p20 to p80)"
                figures[f"{name}-{scenes.replace(' ', '-')}"] = line_figure(series, "sparsity_p", label, title)
    return figures


def _over_sparsity_p(rows: list[dict[str, Any]], key: str, scale: float) -> dict[str, Points]:
    """A line per model, and a level one for each engine of stock vLLM."""
    rows = [row for row in rows if row[key] is not None]
    values = sorted({row["sparsity_p"] for row in rows} - {None})
    names = [name for name in (key, f"{key}_p20", f"{key}_p80") if rows and name in rows[0]]
    series: dict[str, Points] = {}
    for label in dict.fromkeys(_label(row) for row in rows):
        own = sorted((row for row in rows if _label(row) == label), key=lambda row: row["sparsity_p"] or 0.0)
        if own[0]["sparsity_p"] is None:
            own, x = own[:1] * len(values), values
        else:
            x = [row["sparsity_p"] for row in own]
        series[label] = (x, *([row[name] * scale for row in own] for name in names))
    return series if values else {}


def _label(row: dict[str, Any]) -> str:
    return f"{row['engine']}, {row['model']}"
