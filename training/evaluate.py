"""Measure a checkpoint as it is served: `python -m training.evaluate MODEL --sparsity-p 1 0.975 ...`.

Accuracy and token ratio at each `sparsity_p`, by question type, as a table on the terminal, and in `--out` as JSON and
as a picture of accuracy against token ratio; `--baseline` puts a second model, such as the untrained one, beside it.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from attention_backend import check_sparsity_p
from attention_backend.config import SERVED_SELECTIONS
from measurement.environment import describe
from measurement.results import Result, write
from training.data.dataset import load_questions
from training.data.formats import FORMATS
from training.data.rows import AnswerFormat
from training.evaluation.engine import demo_options, served
from training.evaluation.questions import Question, demo_questions, file_questions
from training.evaluation.summary import UNITS, sample, scores, summarise, tables
from training.plots import accuracy_plot
from training.rewards.scores import GRADINGS

BUNDLED = Path(__file__).parents[1] / "server" / "assets"
DEMO = "demo"
DEFAULT_SPARSITY_P = (1.0, 0.99, 0.975, 0.95, 0.9, 0.8, 0.6)
DEMO_MAX_TOKENS, FILE_MAX_TOKENS = 24, 768


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder, Hugging Face id, or the name of a bundled checkpoint such as demo")
    parser.add_argument("--baseline", help="a second model to measure on the same questions, such as the untrained one")
    parser.add_argument(
        "--sparsity-p",
        type=float,
        nargs="+",
        default=list(DEFAULT_SPARSITY_P),
        help="values in (0, 1], 1 for dense (default: %(default)s)",
    )
    parser.add_argument("--data", default=DEMO, help="demo, or a .json or .jsonl file (default: %(default)s)")
    parser.add_argument("--data-format", default="auto", choices=("auto", *FORMATS), help="of the file")
    parser.add_argument("--media-root", type=Path, help="folder the file's paths start from (default: the file's)")
    parser.add_argument("--answer-format", default="think", choices=get_args(AnswerFormat), help="asked of the model")
    parser.add_argument("--grading", default="binary", choices=GRADINGS, help="of answers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=5, help="of the demo's held-out set (default: %(default)s)")
    parser.add_argument("--count", type=int, help="questions (default: 340 of the demo, all of a file)")
    parser.add_argument("--selection", default="zipvl", choices=SERVED_SELECTIONS, help="(default: %(default)s)")
    parser.add_argument(
        "--max-tokens", type=int, help=f"of an answer (default: {DEMO_MAX_TOKENS}; {FILE_MAX_TOKENS} for files)"
    )
    parser.add_argument("--engine-args", type=json.loads, default={}, help="further arguments of vllm.LLM, as JSON")
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="folder to write (default: %(default)s)")
    args = parser.parse_args(argv)
    _check(parser, args)
    return args


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.count is not None and args.count < 1:
        parser.error(f"argument --count {args.count}: must be at least 1; ask one question or more.")
    if not isinstance(args.engine_args, dict):
        parser.error("argument --engine-args: must be a JSON object, such as '{\"max_model_len\": 8192}'.")
    try:
        args.sparsity_p = [check_sparsity_p(value) for value in args.sparsity_p]
    except ValueError as error:
        parser.error(f"argument --sparsity-p: {error}")


def read_questions(args: argparse.Namespace, folder: Path) -> list[Question]:
    """The questions that the command line asks for; `folder` takes the demo's media."""
    if args.data == DEMO:
        return demo_questions(args.seed, args.count or 340, folder)
    questions = load_questions([args.data], args.media_root, args.data_format, args.answer_format)
    return file_questions(questions.rows[: args.count])


def checkpoint(model: str) -> str:
    """The folder of a bundled checkpoint's name; anything else as it is."""
    return str(BUNDLED / model) if not Path(model).exists() and (BUNDLED / model).is_dir() else model


def evaluate(args: argparse.Namespace) -> Result:
    """Ask every model every question at every `sparsity_p`."""
    models = list(dict.fromkeys(filter(None, [args.baseline, args.model])))
    options: dict[str, Any] = (demo_options() if args.data == DEMO else {}) | args.engine_args
    max_tokens = args.max_tokens or (DEMO_MAX_TOKENS if args.data == DEMO else FILE_MAX_TOKENS)
    summary, samples = [], []
    with tempfile.TemporaryDirectory() as folder:
        questions = read_questions(args, Path(folder))
        for model in models:
            with served(checkpoint(model), args.selection, max_tokens, options) as engine:
                for sparsity_p in args.sparsity_p:
                    answers = engine.answer(questions, sparsity_p)
                    points = scores(questions, answers, args.grading)
                    summary.append(summarise(model, sparsity_p, questions, answers, points))
                    rows = zip(questions, answers, points, strict=True)
                    samples += [sample(model, sparsity_p, *row) for row in rows]
    return Result(
        case="evaluation",
        arguments={key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()},
        environment=describe(),
        units=UNITS,
        summary=summary,
        samples=samples,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parse(argv)
    result = evaluate(args)
    print(tables(result.summary))
    path = write(result, args.out)
    picture = accuracy_plot([result], path.with_suffix(".png"))
    print(f"\nWrote {path} and {picture}")


if __name__ == "__main__":
    main()
