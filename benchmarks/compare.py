"""Two results of one case side by side: every figure's ratio, and what differed between the runs."""

from typing import Any, NamedTuple

from benchmarks.errors import BenchmarkError
from measurement.results import Result
from measurement.tables import markdown_table


class Figure(NamedTuple):
    """A measured figure, with its spread where it has one."""

    median: float
    p20: float | None = None
    p80: float | None = None


def figures_of(row: dict[str, Any], units: dict[str, str]) -> dict[str, Figure]:
    """The figures of a summary row: numbers that have a unit, with `<name>_p20` and `<name>_p80` as their spread.

    `median`, `p20` and `p80` of a row, or of an object in a row, are one figure.
    """
    found = {}
    for name, value in row.items():
        if isinstance(value, dict) and "median" in value:
            found[name] = Figure(value["median"], value.get("p20"), value.get("p80"))
        elif name in units and _is_number(value) and name not in ("p20", "p80"):
            low, high = ("p20", "p80") if name == "median" else (f"{name}_p20", f"{name}_p80")
            found[name] = Figure(value, row.get(low), row.get(high))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def identity_of(row: dict[str, Any], units: dict[str, str]) -> tuple[tuple[str, Any], ...]:
    """What a row is about: its names and settings, which are the values without a unit."""
    return tuple(
        (name, value)
        for name, value in row.items()
        if name not in units
        and name.removesuffix("_p20").removesuffix("_p80") not in {*units, "error"}
        and (isinstance(value, str) or _is_number(value))
    )


def ratio(first: Figure, second: Figure) -> str:
    """Second / first, with the least and the largest ratio that the two spreads allow."""
    if not first.median:
        return "-"
    text = f"{second.median / first.median:.3f}"
    if not (first.p20 and first.p80 and second.p20 and second.p80):
        return text
    return f"{text} ({second.p20 / first.p80:.3f} to {second.p80 / first.p20:.3f})"


def compare(first: Result, second: Result) -> str:
    """A row for every figure that both results hold, and the differences of arguments and environment, as Markdown.

    Raises:
        BenchmarkError: the results are of different cases, or have no row in common.
    """
    if first.case != second.case:
        raise BenchmarkError(
            f"the results are of {first.case} and {second.case}, but only two results of one case compare. "
            "Give two of the same case."
        )
    others = {identity_of(row, second.units): figures_of(row, second.units) for row in second.summary}
    rows, missing = [], 0
    for row in first.summary:
        identity = identity_of(row, first.units)
        missing += identity not in others
        for name, figure in figures_of(row, first.units).items():
            if (other := others.get(identity, {}).get(name)) is not None:
                what = ", ".join(f"{key} {value}" for key, value in identity)
                rows.append([what, name, _number(figure.median), _number(other.median), ratio(figure, other)])
    if not rows:
        raise BenchmarkError(
            f"the two results of {first.case} have no row in common. Measure both with the same arguments."
        )
    added = len({identity_of(row, second.units) for row in second.summary}) - (len(first.summary) - missing)
    left_out = f"\n\nIn one result only: {missing} rows of A, {added} rows of B." if missing or added else ""
    table = markdown_table(["row", "figure", "A", "B", "B / A (from spread)"], rows)
    return f"{table}{left_out}\n\n{_differences(first, second)}"


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _differences(first: Result, second: Result) -> str:
    """Arguments and environment where the runs differ."""
    rows = [
        [name, str(ours.get(name, "-")), str(theirs.get(name, "-"))]
        for ours, theirs in ((first.arguments, second.arguments), (first.environment, second.environment))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    if not rows:
        return "Same arguments and same environment."
    return markdown_table(["differs", "A", "B"], rows)
