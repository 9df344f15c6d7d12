"""Command line: `python -m benchmarks CASE [options]`."""

import argparse
import sys
from pathlib import Path

from benchmarks.gpu.device import EXIT_CODE, NoCudaDevice
from benchmarks.readme import replace_section
from benchmarks.registry import CASES, RESULTS_DIR, load
from measurement.results import write

README = Path(__file__).parents[1] / "README.md"


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of one case; `case` holds its name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    # The case's own options need its module, and a module may need vLLM: only the one that is asked for is loaded.
    parser.add_argument("case", choices=CASES)
    name = parser.parse_args(argv[:1]).case
    case = load(name)
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=case.SUMMARY)
    parser.add_argument("--out", type=Path, default=RESULTS_DIR, help="folder of the JSON file (default: %(default)s)")
    parser.add_argument("--update-readme", action="store_true", help="put the table between its markers in README.md")
    case.add_arguments(parser)
    args = parser.parse_args(argv[1:])
    args.case = name
    return args


def main(argv: list[str]) -> None:
    """Run one case, print its table and write its result."""
    args = parse(argv)
    case = load(args.case)
    result = case.run(args)
    table = case.table(result)
    print(table)
    print(f"\nWrote {write(result, args.out)}")
    if args.update_readme:
        replace_section(README, result.case, table)
        print(f"Updated the section '{result.case}' of {README.name}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NoCudaDevice as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_CODE)
