"""Series of the figures that go over context."""

from collections.abc import Iterable
from typing import Any

from benchmarks.plots import Points


def over_context(rows: Iterable[dict[str, Any]], key: str, scale: float = 1.0) -> dict[str, Points]:
    """A figure of every engine and value of sparsity_p over the prompt length, with its spread where rows have one.

    Args:
        rows: each with `model`, `engine`, `sparsity_p` and `context`.
        key: name of the figure, such as "step_ms".
        scale: to the unit of the axis.
    """
    by_label: dict[str, list[dict[str, Any]]] = {}
    rows = list(rows)
    has_models = len({row["model"] for row in rows}) > 1
    for row in rows:
        sparsity_p = "" if row["sparsity_p"] is None else f", sparsity_p = {row['sparsity_p']:g}"
        label = f"{row['engine']}{sparsity_p}" + (f", {row['model']}" if has_models else "")
        by_label.setdefault(label, []).append(row)
    series: dict[str, Points] = {}
    for label, of_label in by_label.items():
        of_label.sort(key=lambda row: row["context"])
        names = [name for name in (key, f"{key}_p20", f"{key}_p80") if name in of_label[0]]
        values = ([row[name] * scale for row in of_label] for name in names)
        series[label] = ([row["context"] for row in of_label], *values)
    return series
