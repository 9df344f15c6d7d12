"""Accuracy, token ratio and KV ratio of a served model over `sparsity_p`, on the held-out questions."""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import mean
from typing import Any

from attention_backend.config import SERVED_SELECTIONS
from benchmarks.questions import Question, Reply, ask_all, load
from benchmarks.server_process import serving
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table
from training.demo_data import write_dataset

SUMMARY = "Accuracy and ratios of a served model over sparsity_p, on the held-out questions, through HTTP."
DEFAULT_SPARSITY_P = (1.0, 0.99, 0.975, 0.95, 0.9, 0.8, 0.6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    parser.add_argument("--url", help="a server that is already running; without it one is started on loopback")
    parser.add_argument("--model", default="demo", help="what to serve when a server is started (default: %(default)s)")
    parser.add_argument("--selection", default="zipvl", choices=SERVED_SELECTIONS, help="of the server that is started")
    parser.add_argument("--seed", type=int, default=5, help="of the held-out set (default: %(default)s)")
    parser.add_argument("--count", type=int, default=340, help="number of questions (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="requests in flight (default: %(default)s)")
    parser.add_argument(
        "--sparsity-p", type=float, nargs="+", default=list(DEFAULT_SPARSITY_P), help="values (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> Result:
    """Ask the whole set at every `sparsity_p`, all against one server."""
    summary, samples = [], []
    options = ["--selection", args.selection]
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(args.seed, args.count, Path(folder))
        questions = load(Path(folder))
    with nullcontext(args.url) if args.url else serving(args.model, options) as url:
        for sparsity_p in args.sparsity_p:
            replies = asyncio.run(ask_all(url, questions, sparsity_p, args.concurrency))
            summary.append(summarise(sparsity_p, questions, replies))
            samples += [_sample(sparsity_p, *pair) for pair in zip(questions, replies, strict=True)]
    keys = ("seed", "count", "sparsity_p", "concurrency", "selection")
    return Result(
        case=_case(args),
        arguments={key: getattr(args, key) for key in keys},
        environment=describe(model="the server at --url" if args.url else args.model, seed=args.seed),
        units={
            "accuracy": "share of exact answers",
            "token_ratio": "tokens kept / tokens",
            "kv_ratio": "KV blocks kept / KV blocks",
        },
        summary=summary,
        samples=samples,
    )


def _case(args: argparse.Namespace) -> str:
    """Each model and each mode has a table of its own."""
    model = "" if args.url or args.model == "demo" else f"-{Path(args.model).name}"
    return f"accuracy{model}" + ("" if args.selection == "zipvl" else f"-{args.selection}")


def summarise(sparsity_p: float, questions: Sequence[Question], replies: Sequence[Reply]) -> dict[str, Any]:
    """Accuracy by kind and by type, and mean ratios over all requests, of one value of `sparsity_p`."""
    right: dict[str, dict[str, list[bool]]] = {"kind": {}, "type": {}}
    for question, reply in zip(questions, replies, strict=True):
        right["kind"].setdefault(question.kind, []).append(reply.is_correct)
        right["type"].setdefault(f"{question.kind}/{question.type}", []).append(reply.is_correct)
    by_kind, by_type = ({name: mean(marks) for name, marks in sorted(right[level].items())} for level in right)
    return {
        "sparsity_p": sparsity_p,
        "num_questions": len(questions),
        "accuracy": mean(reply.is_correct for reply in replies),
        "accuracy_by_kind": by_kind,
        "accuracy_by_type": by_type,
        "token_ratio": mean(reply.sparsity["token_ratio"] for reply in replies),
        "kv_ratio": mean(reply.sparsity["kv_ratio"] for reply in replies),
    }


def _sample(sparsity_p: float, question: Question, reply: Reply) -> dict[str, Any]:
    return {
        "sparsity_p": sparsity_p,
        "type": f"{question.kind}/{question.type}",
        "answer": question.answer,
        "reply": reply.text,
        "num_prompt_tokens": reply.num_prompt_tokens,
        "token_ratio": round(reply.sparsity["token_ratio"], 4),
        "kv_ratio": round(reply.sparsity["kv_ratio"], 4),
    }


def table(result: Result) -> str:
    """The main table, and accuracy by question type under it."""

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    values = [f"{row['sparsity_p']:g}" for row in result.summary]
    main = markdown_table(
        ["`sparsity_p`", "accuracy, image", "accuracy, video", "token ratio", "KV ratio"],
        [
            [
                value,
                *(cell(row["accuracy_by_kind"].get(kind)) for kind in ("image", "video")),
                cell(row["token_ratio"]),
                cell(row["kv_ratio"]),
            ]
            for value, row in zip(values, result.summary, strict=True)
        ],
    )
    by_type = markdown_table(
        ["question type", *values],
        [
            [name, *(cell(row["accuracy_by_type"][name]) for row in result.summary)]
            for name in result.summary[0]["accuracy_by_type"]
        ],
    )
    asked = f"{result.arguments['count']} questions of seed {result.arguments['seed']}, each asked at every value."
    return f"{main}\n\n{asked}\n\n<details><summary>Accuracy by question type</summary>\n\n{by_type}\n\n</details>"
