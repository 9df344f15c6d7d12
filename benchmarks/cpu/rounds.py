"""Measurements beside the baseline, so that a drift of the machine cancels: each of ours between two of the baseline,
or, where it can be cut into slices, in turn with those of one of the baseline."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.measure import spread

Row = dict[str, Any]


class Turn(NamedTuple):
    """One measurement, and those of the baseline right before and after it, or at the same time."""

    row: Row
    neighbours: tuple[Row, ...]

    def ratio(self, figure: str) -> float | None:
        """The figure / its mean over the neighbours; None where one of them has no such figure."""
        values = [row.get(figure) for row in (self.row, *self.neighbours)]
        return None if None in values else values[0] / fmean(values[1:])


def in_turns(
    baseline: Callable[[], Row],
    variants: Mapping[Hashable, Callable[[], Row]],
    rounds: int,
    on_run: Callable[[], Any] = lambda: None,
) -> tuple[list[Row], dict[Hashable, list[Turn]]]:
    """Measure baseline, first variant, baseline, second variant, ..., baseline; every other round backwards.

    Args:
        baseline: measures it once.
        variants: each measures its own once.
        rounds: how often every variant is measured.
        on_run: called after every measurement.

    Returns:
        All rows of the baseline, and the turns of every variant.
    """

    def measured(measure: Callable[[], Row]) -> Row:
        row = measure()
        on_run()
        return row

    of_baseline = [measured(baseline)]
    turns: dict[Hashable, list[Turn]] = {key: [] for key in variants}
    for number in range(rounds):
        for key in reversed(variants) if number % 2 else variants:
            row = measured(variants[key])
            of_baseline.append(measured(baseline))
            turns[key].append(Turn(row, (of_baseline[-2], of_baseline[-1])))
    return of_baseline, turns


def in_slices(
    baseline: Callable[[], Row],
    variants: Mapping[Hashable, Callable[[], Row]],
    rounds: int,
    on_run: Callable[[], Any] = lambda: None,
) -> tuple[list[Row], dict[Hashable, list[Turn]]]:
    """Measure every variant together with the baseline, a slice of one and a slice of the other in turn.

    Args:
        baseline: measures a slice of it; returns a row with `is_done` False until the last, which returns the figures.
        variants: each does so for its own.
        rounds: how often every variant is measured.
        on_run: called after every measurement.

    Returns:
        All rows of the baseline, and the turns of every variant.
    """
    of_baseline, turns = [], {key: [] for key in variants}
    for number in range(rounds):
        for key, variant in variants.items():
            # Who begins goes round, for the last slices have the machine to themselves.
            order = (baseline, variant) if number % 2 else (variant, baseline)
            rows: dict[Callable[[], Row], Row] = {}
            while len(rows) < len(order):
                for measure in order:
                    if measure not in rows and (row := measure()).get("is_done", True):
                        rows[measure] = row
                        on_run()
            of_baseline.append(rows[baseline])
            turns[key].append(Turn(rows[variant], (rows[baseline],)))
    return of_baseline, turns


def num_runs(num_variants: int, rounds: int) -> int:
    """Measurements that `in_turns` makes."""
    return 1 + 2 * num_variants * rounds


def figures_of(rows: Sequence[Row], names: Sequence[str], with_spread: Sequence[str]) -> Row:
    """The median of every figure over rows, with p20 and p80 of some; null where a row has none."""
    found = spreads({name: [row[name] for row in rows] for name in names})
    return {name: value for name, value in found.items() if name in names or name.rpartition("_")[0] in with_spread}


def spreads(values: Mapping[str, Sequence[float | None]]) -> Row:
    """`<name>`, `<name>_p20` and `<name>_p80` of every list; null where a value is missing."""
    found: Row = {}
    for name, samples in values.items():
        keys = (name, f"{name}_p20", f"{name}_p80")
        found |= dict(zip(keys, [None] * 3 if None in samples else spread(samples), strict=True))
    return found
