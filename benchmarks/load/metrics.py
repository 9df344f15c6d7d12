"""Reading a Prometheus page."""

import re


def metric_sum(page: str, name: str) -> float:
    """The sum of a metric's samples over their labels; 0 where there are none."""
    lines = (line for line in page.splitlines() if re.match(rf"{re.escape(name)}[{{ ]", line))
    return sum(float(line.rpartition(" ")[2]) for line in lines)
