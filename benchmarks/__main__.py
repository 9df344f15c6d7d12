"""Command line: `python -m benchmarks {list,run,compare,plot,report}`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import exit_status
from benchmarks.parser import OneLineParser
from benchmarks.registry import CASES

EXIT_INTERRUPTED = 130
COMMANDS = {
    "list": "the cases, what they measure and what stands beside",
    "run": "measure one case, or the short set: run CASE [options], run --short",
    "compare": "two results of one case: compare A.json B.json",
    "plot": "the figures of results as PNG: plot RESULT.json ... --out DIR",
    "report": "docs/performance.md and a page in HTML, from the newest results",
}


def dispatch(argv: Sequence[str]) -> None:
    """Carry out one command; the modules of a command are imported with it.

    Raises:
        BenchmarkError: bad input, or a case could not measure.
    """
    described = "\n".join(f"  {name:8} {what}" for name, what in COMMANDS.items())
    parser = OneLineParser(prog="python -m benchmarks", usage="%(prog)s COMMAND ...", description=described)
    parser.add_argument("command", choices=COMMANDS, help="each has a --help of its own")
    command, rest = parser.parse_args(argv[:1]).command, argv[1:]
    if command == "list":
        OneLineParser(prog="python -m benchmarks list", description=COMMANDS[command]).parse_args(rest)
        print(listed())
    elif command == "run":
        from benchmarks.running import run

        run(rest)
    elif command == "report":
        from benchmarks.report import report

        report(rest)
    elif command == "compare":
        compare_files(rest)
    else:
        plot_files(rest)


def listed() -> str:
    """The cases in columns."""
    header = ("case", "devices", "baseline", "measures")
    rows = [header, *((name, ", ".join(case.modules), case.baseline, case.summary) for name, case in CASES.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*(f"{row[i]:{width}}" for i, width in enumerate(widths)), row[3]]) for row in rows)


def compare_files(argv: Sequence[str]) -> None:
    """Print the comparison of two result files.

    Raises:
        BenchmarkError: they cannot be read or compared.
    """
    from benchmarks.compare import compare
    from benchmarks.stored import read_result

    parser = OneLineParser(prog="python -m benchmarks compare", description=COMMANDS["compare"])
    parser.add_argument("files", type=Path, nargs=2, metavar="RESULT.json")
    first, second = (read_result(path) for path in parser.parse_args(argv).files)
    print(compare(first, second))


def plot_files(argv: Sequence[str]) -> None:
    """Write the figures of result files.

    Raises:
        BenchmarkError: a file cannot be read.
    """
    from benchmarks.plots import save
    from benchmarks.stored import read_result, rendered

    parser = OneLineParser(prog="python -m benchmarks plot", description=COMMANDS["plot"])
    parser.add_argument("files", type=Path, nargs="+", metavar="RESULT.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    args = parser.parse_args(argv)
    drawn = {path: rendered(read_result(path), lambda case: case.figures) for path in args.files}
    for path, figures in drawn.items():
        for name, figure in figures.items():
            print(f"Wrote {save(figure, args.out / f'{path.stem}-{name}.png')}")
        if not figures:
            print(f"{path} has no figures.")


def main(argv: Sequence[str]) -> int:
    """Carry out one command; returns the exit status."""
    try:
        return exit_status(dispatch, argv)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
