"""Statistics of repeated measurements."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import NamedTuple


class Spread(NamedTuple):
    """Median with the 20th and 80th percentile."""

    median: float
    p20: float
    p80: float


def spread(samples: Sequence[float]) -> Spread:
    """Median, p20 and p80 of the samples, at least one."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    cuts = quantiles(samples, n=5, method="inclusive")
    return Spread(median(samples), cuts[0], cuts[-1])
