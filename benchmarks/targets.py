"""Figures that are to be reached, and what results say to each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from measurement.results import Result
from measurement.tables import markdown_table

NOT_MEASURED = "not yet measured"
Results = Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class Target:
    """One figure.

    Attributes:
        what: what is measured.
        limit: what it is to reach.
        is_upper: whether smaller is better.
        measure: the figure in a set of results by case; raises `LookupError` where it was not measured.
        unit: behind the number.
        note: what stands beside the figure; raises like `measure`.
    """

    what: str
    limit: float
    is_upper: bool
    measure: Callable[[Results], float]
    unit: str = ""
    note: Callable[[Results], str] = lambda results: ""

    def passed(self, figure: float) -> bool:
        return figure <= self.limit if self.is_upper else figure >= self.limit


def targets_table(targets: Sequence[Target], results: Results) -> str:
    """A row per target, filled in where the results hold its figure.

    Args:
        targets: in the order of the table.
        results: by case.
    """
    rows = []
    for target in targets:
        limit = f"{'at most' if target.is_upper else 'at least'} {target.limit:g}{target.unit}"
        try:
            figure, note = target.measure(results), target.note(results)
        except LookupError:
            rows.append([target.what, limit, NOT_MEASURED, "-"])
            continue
        measured = f"{figure:.3f}{target.unit}" + (f" ({note})" if note else "")
        rows.append([target.what, limit, measured, "reached" if target.passed(figure) else "**missed**"])
    return markdown_table(["figure", "to reach", "measured", ""], rows)
