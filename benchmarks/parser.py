"""The parser of every command: what is wrong with an argument is one line."""

import argparse
from typing import Any, NoReturn

from benchmarks.errors import BenchmarkError


class OneLineParser(argparse.ArgumentParser):
    """A parser that raises instead of printing its usage, knows no abbreviations and keeps the lines of its texts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Raises:
        BenchmarkError: always.
        """
        raise BenchmarkError(f"{self.prog}: {message}. `{self.prog} --help` shows what there is.")
