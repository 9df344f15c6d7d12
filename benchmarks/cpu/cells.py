"""Cells of tables that show a median with its spread."""

from typing import Any


def cell(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def with_spread(row: dict[str, Any], name: str, digits: int = 2) -> str:
    """A median with its p20 and p80, or a dash."""
    low, high = (cell(row.get(f"{name}_{end}"), digits) for end in ("p20", "p80"))
    return "-" if row.get(name) is None else f"{cell(row[name], digits)} ({low} to {high})"


def share_of_mass(sparsity_p: float | None) -> str:
    """`sparsity_p` as it was given; stock vLLM has none."""
    return "-" if sparsity_p is None else f"{sparsity_p:g}"
