"""Results of the GPU cases as Markdown."""

from typing import Any

from measurement.results import Result
from measurement.tables import markdown_table

_ERROR_CHARACTERS = 120
_HEADER = (
    "point",
    "mode",
    "batch",
    "time, ms (p20 to p80)",
    "vs. stock",
    "bound, ms",
    "share of bound",
    "attention kernels, ms (share of bound)",
    "host, ms",
    "KV, GB",
    "tokens/s",
)


def cell(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def comparison_table(result: Result) -> str:
    """A row per point and mode; a point that could not be measured says why."""
    return markdown_table(_HEADER, [_comparison_row(row) for row in result.summary])


def _comparison_row(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [row["name"], row["mode"], error_line(row["error"]), *["-"] * (len(_HEADER) - 3)]
    key = "prefill_ms" if row["kind"] == "prefill" else "step_ms"
    times = f"{cell(row[key])} ({cell(row[f'{key}_p20'])} to {cell(row[f'{key}_p80'])})"
    kv_bytes = row.get("kv_bytes")
    return [
        row["name"],
        row["mode"],
        str(row["batch"]),
        times,
        cell(row.get("speedup")),
        cell(row.get("bound_ms")),
        cell(row.get("share_of_bound")),
        cell(row["attention_ms"]) + (f" ({share:.2f})" if (share := row.get("attention_share_of_bound")) else ""),
        cell(row.get("host_ms")),
        cell(kv_bytes and kv_bytes / 1e9),
        cell(row.get("tokens_per_s"), 0),
    ]


def kernel_table(result: Result, name: str) -> str:
    """What each kernel of a point takes in every mode, folded away; "" where nothing was profiled."""
    kernels = {row["mode"]: row["kernels"] for row in result.samples if row["name"] == name and "kernels" in row}
    if not kernels:
        return ""
    total = {
        kernel: sum(times.get(kernel, 0.0) for times in kernels.values())
        for times in kernels.values()
        for kernel in times
    }
    rows = [
        [f"`{error_line(kernel)}`", *(cell(times.get(kernel), 3) for times in kernels.values())]
        for kernel in sorted(total, key=total.get, reverse=True)
    ]
    listed = markdown_table(["kernel", *(f"{mode}, ms" for mode in kernels)], rows)
    return f"\n\n<details><summary>Kernels of {name}</summary>\n\n{listed}\n\n</details>"


def error_line(error: str) -> str:
    """The beginning of a message, fit for a table."""
    line = " ".join(error.split()).replace("|", "/")
    return line if len(line) <= _ERROR_CHARACTERS else line[:_ERROR_CHARACTERS] + " ..."
