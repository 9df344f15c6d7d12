"""Accuracy, token ratio and KV ratio of a served model over `sparsity_p`, on the held-out questions.

The baselines keep as many tokens at the same `sparsity_p`, but not those that attention ranks highest: a selection must
beat both a random one and the most recent tokens.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from attention_backend.config import RANKINGS, SERVED_SELECTIONS
from benchmarks.errors import BenchmarkError
from benchmarks.plots import heat_map, line_figure
from benchmarks.questions import Question, Reply, ask_all, load
from benchmarks.server_process import serving
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table
from training.demo_data import write_dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_SPARSITY_P = (1.0, 0.99, 0.975, 0.95, 0.9, 0.8, 0.6)
OURS, *BASELINES = RANKINGS
LABELS = {"attention": "attention mass", "random": "random", "recent": "most recent"}
# The heat map is drawn at the value nearest to this one.
HEAT_MAP_P = 0.975
SHORT = {"count": 51, "sparsity_p": [1.0, 0.975], "baselines": ["random"]}


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
    parser.add_argument(
        "--baselines",
        nargs="*",
        default=[],
        choices=BASELINES,
        help="measure these rankings too, each on a server of its own (default: none)",
    )


def run(args: argparse.Namespace) -> Result:
    """Ask the whole set at every `sparsity_p`; the baselines at every value that prunes."""
    _check(args)
    summary, samples = [], []
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(args.seed, args.count, Path(folder))
        questions = load(Path(folder))
    for ranking in (OURS, *args.baselines):
        # Without pruning there is nothing to rank.
        values = [p for p in args.sparsity_p if ranking == OURS or p < 1.0]
        options = ["--selection", args.selection, *(["--ranking", ranking] if ranking != OURS else [])]
        with nullcontext(args.url) if args.url else serving(args.model, options) as url:
            for sparsity_p in values:
                replies = asyncio.run(ask_all(url, questions, sparsity_p, args.concurrency))
                _check_ranking(ranking, replies)
                summary.append({"ranking": ranking, **summarise(sparsity_p, questions, replies)})
                samples += [_sample(ranking, sparsity_p, *pair) for pair in zip(questions, replies, strict=True)]
    keys = ("seed", "count", "sparsity_p", "concurrency", "selection", "baselines")
    return Result(
        case=_case(args),
        arguments={key: getattr(args, key) for key in keys},
        environment=describe(model="the server at --url" if args.url else args.model, seed=args.seed),
        units={
            "accuracy": "share of exact answers",
            "token_ratio": "tokens kept / tokens",
            "kv_ratio": "KV blocks kept / KV blocks",
            "layer_token_ratios": "tokens whose keys and values stayed / tokens, by layer",
        },
        summary=summary,
        samples=samples,
    )


def _check(args: argparse.Namespace) -> None:
    """Raises:
    BenchmarkError: an option breaks a rule.
    """
    wrong = [p for p in args.sparsity_p if not 0 < p <= 1]
    if wrong or 1.0 not in args.sparsity_p:
        raise BenchmarkError(
            f"--sparsity-p is {' '.join(f'{p:g}' for p in args.sparsity_p)}, but must hold numbers in (0, 1] and among "
            "them 1, the dense baseline. Add it."
        )
    if args.count < 1 or args.concurrency < 1:
        raise BenchmarkError(
            f"--count is {args.count} and --concurrency is {args.concurrency}, but both must be at least 1. Raise them."
        )
    if args.url and args.baselines:
        raise BenchmarkError(
            f"--baselines is {' '.join(args.baselines)}, but a server has one ranking for its whole life. "
            "Leave --url out, so that one is started for each."
        )


def _check_ranking(ranking: str, replies: Sequence[Reply]) -> None:
    """No baseline is taken for ours, and ours for no baseline.

    Raises:
        BenchmarkError: the server ranks otherwise than it was told.
    """
    if found := {reply.sparsity.get("ranking") or OURS for reply in replies} - {ranking}:
        raise BenchmarkError(
            f"the server's ranking is {', '.join(found)}, but must be {ranking} for these figures. Start it so."
        )


def _case(args: argparse.Namespace) -> str:
    """Each model and each mode has a table of its own."""
    model = "" if args.url or args.model == "demo" else f"-{Path(args.model).name}"
    return f"quality{model}" + ("" if args.selection == "zipvl" else f"-{args.selection}")


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


def _sample(ranking: str, sparsity_p: float, question: Question, reply: Reply) -> dict[str, Any]:
    return {
        "ranking": ranking,
        "sparsity_p": sparsity_p,
        "type": f"{question.kind}/{question.type}",
        "answer": question.answer,
        "reply": reply.text,
        "num_prompt_tokens": reply.num_prompt_tokens,
        "token_ratio": round(reply.sparsity["token_ratio"], 4),
        "kv_ratio": round(reply.sparsity["kv_ratio"], 4),
        "layer_token_ratios": [round(ratio, 4) for ratio in reply.layer_token_ratios],
    }


def rows_of(result: Result, ranking: str) -> list[dict[str, Any]]:
    """The summary rows of one ranking, in the order in which they were measured."""
    return [row for row in result.summary if row["ranking"] == ranking]


def table(result: Result) -> str:
    """The main table, the baselines beside it where they were measured, and accuracy by question type folded away."""
    ours = rows_of(result, OURS)
    values = [f"{row['sparsity_p']:g}" for row in ours]
    main = markdown_table(
        ["`sparsity_p`", "accuracy, image", "accuracy, video", "token ratio", "KV ratio"],
        [
            [
                value,
                *(_cell(row["accuracy_by_kind"].get(kind)) for kind in ("image", "video")),
                _cell(row["token_ratio"]),
                _cell(row["kv_ratio"]),
            ]
            for value, row in zip(values, ours, strict=True)
        ],
    )
    by_type = markdown_table(
        ["question type", *values],
        [[name, *(_cell(row["accuracy_by_type"][name]) for row in ours)] for name in ours[0]["accuracy_by_type"]],
    )
    asked = f"{result.arguments['count']} questions of seed {result.arguments['seed']}, each asked at every value."
    return (
        f"{main}\n\n{asked}{_baseline_table(result)}\n\n"
        f"<details><summary>Accuracy by question type</summary>\n\n{by_type}\n\n</details>"
    )


def _baseline_table(result: Result) -> str:
    """Accuracy where as many tokens are kept, chosen otherwise; "" where no baseline was measured."""
    rankings = [ranking for ranking in RANKINGS if rows_of(result, ranking)]
    if rankings == [OURS]:
        return ""
    found = {(row["ranking"], row["sparsity_p"]): row for row in result.summary}
    rows = [
        [f"{sparsity_p:g}"] + [f"{_cell(row['accuracy'])} ({_cell(row['token_ratio'])})" for row in rows]
        for sparsity_p in dict.fromkeys(row["sparsity_p"] for row in rows_of(result, rankings[-1]))
        if (rows := [found[ranking, sparsity_p] for ranking in rankings])
    ]
    header = ["`sparsity_p`", *(f"tokens kept: {LABELS[ranking]}" for ranking in rankings)]
    return (
        "\n\nAccuracy (and token ratio) where every layer keeps as many tokens as its attention mass asks for, but "
        "others. "
        "Later layers then see other hidden states, so the ratios differ a little.\n\n" + markdown_table(header, rows)
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def figures(result: Result) -> "dict[str, Figure]":
    """Accuracy against token ratio, and which layers keep how much of which questions."""
    drawn = {
        "accuracy": line_figure(
            _accuracy_series(result),
            "token ratio (1 is dense)",
            "accuracy",
            f"{result.arguments['count']} questions; bands: 95 % confidence",
        )
    }
    return drawn | _layer_map(result)


def _accuracy_series(result: Result) -> dict[str, tuple[list[float], ...]]:
    """Accuracy over token ratio of every ranking; all lines begin at the dense point."""
    dense = [row for row in rows_of(result, OURS) if row["sparsity_p"] == 1.0]
    series = {}
    # The first line is drawn as what others are compared with.
    for ranking in (*BASELINES, OURS):
        pruned = [row for row in rows_of(result, ranking) if row["sparsity_p"] < 1.0]
        if pruned or ranking == OURS:
            rows = sorted([*dense, *pruned], key=lambda row: row["token_ratio"])
            ends = [confidence(row["accuracy"], row["num_questions"]) for row in rows]
            series[LABELS[ranking]] = (
                [row["token_ratio"] for row in rows],
                [row["accuracy"] for row in rows],
                [low for low, _ in ends],
                [high for _, high in ends],
            )
    return series


def confidence(share: float, count: int, deviations: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share of `count` trials; 95 % by default."""
    square = deviations**2 / count
    centre = (share + square / 2) / (1 + square)
    half = deviations / (1 + square) * (share * (1 - share) / count + square / count / 4) ** 0.5
    return centre - half, centre + half


def _layer_map(result: Result) -> "dict[str, Figure]":
    """Mean token ratio by layer and question type at one value; {} where no value prunes or no layers are known."""
    pruned = [row["sparsity_p"] for row in rows_of(result, OURS) if row["sparsity_p"] < 1.0]
    if not pruned:
        return {}
    sparsity_p = min(pruned, key=lambda p: abs(p - HEAT_MAP_P))
    by_type: dict[str, list[list[float]]] = {}
    for sample in result.samples:
        if (sample["ranking"], sample["sparsity_p"]) == (OURS, sparsity_p) and "layer_token_ratios" in sample:
            by_type.setdefault(sample["type"], []).append(sample["layer_token_ratios"])
    if not by_type:
        return {}
    types = sorted(by_type)
    means = [[mean(layer) for layer in zip(*by_type[name], strict=True)] for name in types]
    layers = [f"layer {index}" for index in range(len(means[0]))]
    title = f"kept tokens by layer and question type at sparsity_p {sparsity_p:g}"
    matrix = [list(row) for row in zip(*means, strict=True)]
    return {"layers": heat_map(matrix, types, layers, title, "tokens kept / tokens")}
