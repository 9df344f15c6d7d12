"""Record a stage that did not come to its end: `python -m benchmarks.gpu.failure CASE STATUS LOG OUT`."""

import sys
from pathlib import Path

from measurement.environment import describe
from measurement.results import Result, write

_LOG_CHARACTERS = 4000
# What `timeout` ends with.
TIMED_OUT = {124, 137}


def failure(case: str, status: int, log: str) -> Result:
    """A result of its own name, so that it never hides an older one of the case."""
    reason = "ended after its time limit" if status in TIMED_OUT else f"ended with status {status}"
    return Result(
        case=f"{case}-failed",
        arguments={},
        environment=describe(),
        units={},
        summary=[{"error": f"{case} {reason}", "log": log[-_LOG_CHARACTERS:]}],
        samples=[],
    )


def main(case: str, status: str, log: str, out: str) -> None:
    """Write the failure and say so."""
    result = failure(case, int(status), Path(log).read_text(encoding="utf-8", errors="replace"))
    print(f"{result.summary[0]['error']}; wrote {write(result, Path(out))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
