"""What ends the command line with one line instead of a traceback.

BenchmarkError              bad input, or a case that could not measure: exit status 2
└── NoCudaDevice            a figure of a GPU was asked for where there is none: exit status 3
"""

import sys
from collections.abc import Callable, Sequence


class BenchmarkError(RuntimeError):
    """A case could not measure, or a file could not be used.

    Args:
        message: what, the rule and the remedy; line breaks become spaces.
    """

    exit_status = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class NoCudaDevice(BenchmarkError):
    """A figure of a GPU was asked for on a machine without one."""

    exit_status = 3


def exit_status(command: Callable[[Sequence[str]], object], argv: Sequence[str]) -> int:
    """Carry a command out; what it could not do is one line on stderr and its exit status."""
    try:
        command(argv)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0
