"""The demo's picture questions as a TSV file for VLMEvalKit, and exact match of its predictions.

`python -m benchmarks.harnesses.vlmevalkit.demo write demo-data runs/LMUData/winnow_demo.tsv`
`python -m benchmarks.harnesses.vlmevalkit.demo score outputs/.../NAME_winnow_demo.tsv`

VLMEvalKit asks a TSV of its own making, but does not score one: it has no metric for questions that it does not know.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError, exit_status
from training.demo_data import QUESTIONS_FILE

COLUMNS = ("index", "image_path", "question", "answer", "category")


def write_tsv(data: Path, path: Path) -> int:
    """Write the questions about pictures in the order of their rows; returns how many.

    VLMEvalKit's own TSV files hold pictures only, so questions about videos are left out. The pictures stay files:
    inside the TSV they would reach the server as JPEG.

    Args:
        data: what `python -m training.demo_data` wrote.
        path: the TSV file; its stem is the name that VLMEvalKit calls the set by.

    Raises:
        BenchmarkError: `data` holds no questions.
    """
    source = data / QUESTIONS_FILE
    if not source.is_file():
        raise BenchmarkError(f"{source} is missing, but holds the questions. Run python -m training.demo_data first.")
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    pictures = [row for row in rows if all(item["type"] == "image" for item in row["media"])]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(COLUMNS)
        for index, row in enumerate(pictures):
            paths = [str((data / item["path"]).resolve()) for item in row["media"]]
            # A list of paths stands as Python writes it.
            writer.writerow(
                [index, paths[0] if len(paths) == 1 else paths, row["question"], row["answer"], row["type"]]
            )
    return len(pictures)


def score(path: Path) -> dict[str, float]:
    """Exact match over all questions, and by category.

    Args:
        path: the predictions, as VLMEvalKit writes them with PRED_FORMAT=tsv.

    Raises:
        BenchmarkError: the file lacks a column.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    missing = {"answer", "prediction", "category"} - set(rows[0] if rows else ())
    if missing:
        raise BenchmarkError(
            f"{path} has no column {', '.join(sorted(missing))}, but a file of predictions has them all. "
            "Run VLMEvalKit with PRED_FORMAT=tsv and --mode infer."
        )
    marks: dict[str, list[bool]] = {}
    for row in rows:
        for name in ("all", row["category"]):
            marks.setdefault(name, []).append(row["prediction"].strip() == row["answer"])
    return {name: sum(marks[name]) / len(marks[name]) for name in sorted(marks)}


def main(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.harnesses.vlmevalkit.demo", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="the TSV file")
    write.add_argument("data", type=Path, help="folder that `make demo-data` wrote")
    write.add_argument("tsv", type=Path, help="file to write, in the folder that LMUData names")
    commands.add_parser("score", help="exact match").add_argument("predictions", type=Path, help="TSV of VLMEvalKit")
    args = parser.parse_args(argv)
    if args.command == "write":
        print(f"wrote {write_tsv(args.data, args.tsv)} questions to {args.tsv}")
    else:
        for name, value in score(args.predictions).items():
            print(f"{name:14} {value:.4f}")


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
