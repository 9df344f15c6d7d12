"""Reading a Prometheus page."""

import re


def metric_sum(page: str, name: str, label: str = "") -> float:
    """The sum of a metric's samples over their labels; 0 where there are none.

    Args:
        page: of the server.
        name: of the metric.
        label: such as `mode="sparse"`; samples without it are left out.
    """
    lines = (line for line in page.splitlines() if re.match(rf"{re.escape(name)}[{{ ]", line) and label in line)
    return sum(float(line.rpartition(" ")[2]) for line in lines)
