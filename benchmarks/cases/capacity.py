"""Far more long prompts than a KV cache of fixed size holds: ours over sparsity_p, against stock vLLM of equal memory.

Every engine runs the same held-out questions in a process of its own, each run of ours together with one of stock vLLM:
now one takes steps for a moment, now the other, because they may differ by less than a machine drifts within one run.
Two throughputs are told apart: of the whole run, prompts included, and of decoding while the cache is full.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.cpu import options
from benchmarks.cpu.capacity_report import FIGURES, SPREAD_FIGURES, UNITS, VERSUS, capacity_figures, capacity_table
from benchmarks.cpu.engines import Pair, check_pair, engine_arguments, pair, stock_engine
from benchmarks.cpu.models import Model
from benchmarks.cpu.rounds import Row, Turn, figures_of, in_slices, spreads
from benchmarks.engine.engines import EngineProcess
from benchmarks.engine.scenes import SCENES, max_prompt_tokens
from benchmarks.errors import BenchmarkError
from measurement.environment import describe
from measurement.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_MODEL_LEN, MAX_NUM_SEQS = 4096, 128
WARMUP_REQUESTS = 12
# Long beside a step and what a change of turns costs, short beside what else happens on a machine.
SLICE_S = 0.25
COUNTS = ("holds", "requests", "max_tokens", "questions", "rounds")
STOCK, OURS = "stock vLLM", "Winnow"
# Other ways to get more out of a KV cache: engine arguments of stock vLLM, and the scenes that they have a say in.
BASELINES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "fp8 KV cache": ({"kv_cache_dtype": "fp8"}, ("pictures", "video")),
    "video pruning": ({"video_pruning_rate": 0.7}, ("video",)),
}
SHORT = {
    "models": ["demo-sparse"],
    "sparsity_p": [1.0, 0.975],
    "scenes": ["pictures"],
    "baselines": [],
    "holds": 8,
    "requests": 32,
    "rounds": 1,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    options.add_models(parser, ("demo", "demo-sparse"))
    options.add_sparsity_p(parser, (1.0, 0.975, 0.95, 0.9))
    options.add_scenes(parser, "--scenes", ("pictures", "video"), SCENES)
    parser.add_argument(
        "--baselines",
        nargs="*",
        default=list(BASELINES),
        choices=BASELINES,
        metavar="BASELINE",
        help="beside stock vLLM, with the first model (default: %(default)s)",
    )
    options.add_count(parser, "--holds", 16, "whole requests that the KV cache of stock vLLM holds")
    options.add_count(parser, "--requests", 160, "offered at once")
    options.add_count(parser, "--max-tokens", 96, "that every request generates")
    options.add_count(parser, "--questions", 24, "different ones among the requests")
    options.add_count(parser, "--rounds", 2, "turns of every engine and value")
    options.add_seed(parser)


def run(args: argparse.Namespace) -> Result:
    """Check, then measure, model after model."""
    options.check_counts(args, *COUNTS)
    args.sparsity_p = options.checked_sparsity_p(args.sparsity_p)
    models = options.checked_models(args.models)
    summary, samples = [], []
    plan = {model: _plan(args, has_baselines=model == models[0]) for model in models}
    planned = sum(_num_runs(args, len(names)) for of_model in plan.values() for names in of_model.values())
    with tqdm(total=planned, desc="capacity", unit="run", leave=None) as progress:
        for model, of_model in plan.items():
            with pair(model, _arguments(model, args), args.seed) as engines:
                for scenes, names in of_model.items():
                    check_pair(engines, scenes, args.questions, args.sparsity_p)
                    where = {"model": model.name, "scenes": scenes}
                    with _baselines(model, scenes, names, args) as (baselines, refused):
                        progress.total -= _num_runs(args, len(names)) - _num_runs(args, len(baselines))
                        rows, singles = _measure(engines, baselines, where, args, progress)
                    summary += rows + [where | row for row in refused]
                    samples += singles
    return Result(
        case="capacity",
        arguments={key: getattr(args, key) for key in ("models", "sparsity_p", "scenes", "baselines", *COUNTS)},
        environment=describe(
            model=", ".join(model.name for model in models),
            seed=args.seed,
            kv_cache_bytes={model.name: _kv_bytes(model, args) for model in models},
        ),
        units=UNITS,
        summary=summary,
        samples=samples,
    )


def _plan(args: argparse.Namespace, has_baselines: bool) -> dict[str, list[str]]:
    """The baselines that are to run beside each kind of prompt: those that have a say in it."""
    names = dict.fromkeys(args.baselines) if has_baselines else {}
    return {scenes: [name for name in names if scenes in BASELINES[name][1]] for scenes in args.scenes}


def _num_runs(args: argparse.Namespace, num_baselines: int) -> int:
    return 2 * args.rounds * (len(args.sparsity_p) + num_baselines)


def _kv_bytes(model: Model, args: argparse.Namespace) -> int:
    """Of every engine: it holds so many of the longest prompts with what they generate."""
    longest = max(max_prompt_tokens(scenes) for scenes in args.scenes)
    return model.kv_bytes(args.holds, longest + args.max_tokens)


def _arguments(model: Model, args: argparse.Namespace) -> dict[str, Any]:
    return engine_arguments(model, _kv_bytes(model, args), MAX_MODEL_LEN, max(MAX_NUM_SEQS, args.requests))


@contextmanager
def _baselines(
    model: Model, scenes: str, names: list[str], args: argparse.Namespace
) -> Iterator[tuple[dict[str, EngineProcess], list[Row]]]:
    """Engines of the baselines that this platform has, by name, and rows that say why it lacks the others."""
    engines, refused = {}, []
    with ExitStack() as stack:
        for name in names:
            arguments = _arguments(model, args) | BASELINES[name][0]
            engine = stack.enter_context(stock_engine(model, arguments, args.seed, f"{STOCK} with {name}"))
            try:
                engine.measure(_point(args, scenes) | {"requests": 1})
            except BenchmarkError as error:
                reason = f"not available on this platform: {error}"
                refused.append({"engine": f"{STOCK}, {name}", "sparsity_p": None, "error": reason})
            else:
                engines[name] = engine
        yield engines, refused


def _point(args: argparse.Namespace, scenes: str) -> dict[str, Any]:
    """What one engine is asked to do."""
    return {
        "kind": "load",
        "scenes": scenes,
        "num_questions": args.questions,
        "requests": args.requests,
        "max_tokens": args.max_tokens,
        "sparsity_p": 1.0,
    }


def _measure(
    engines: Pair, baselines: Mapping[str, EngineProcess], where: Row, args: argparse.Namespace, progress: tqdm
) -> tuple[list[Row], list[Row]]:
    """Summary rows and samples of one model and one kind of prompt."""
    point = _point(args, where["scenes"])
    for engine in (*engines, *baselines.values()):
        engine.measure(point | {"requests": min(args.requests, WARMUP_REQUESTS)})
    point |= {"slice_s": SLICE_S}
    variants = {
        (OURS, value): partial(engines.ours.measure, point | {"sparsity_p": value}) for value in args.sparsity_p
    }
    variants |= {(f"{STOCK}, {name}", None): partial(engine.measure, point) for name, engine in baselines.items()}
    stock, turns = in_slices(partial(engines.stock.measure, point), variants, args.rounds, progress.update)
    labels = {key: where | {"engine": key[0], "sparsity_p": key[1]} for key in ((STOCK, None), *variants)}
    rows = {(STOCK, None): stock} | {key: [turn.row for turn in of_key] for key, of_key in turns.items()}
    summary = [labels[key] | figures_of(measured, FIGURES, SPREAD_FIGURES) for key, measured in rows.items()]
    for row, of_key in zip(summary[1:], turns.values(), strict=True):
        row |= versus_stock(of_key)
    names = ("seconds", *FIGURES)
    singles = [labels[key] | {name: row[name] for name in names} for key, of_key in rows.items() for row in of_key]
    return summary, singles


def versus_stock(turns: list[Turn]) -> Row:
    """Every figure of `VERSUS` / that of stock vLLM in the same turn, and what is made of them, with the spread."""
    ratios = {name: [turn.ratio(figure) for turn in turns] for name, figure in VERSUS.items()}
    in_use = zip(ratios["full_cache_running_vs_stock"], ratios["kv_bytes_per_request_vs_stock"], strict=True)
    ratios["full_cache_bytes_vs_stock"] = [None if None in pair else pair[0] * pair[1] for pair in in_use]
    return spreads(ratios)


def table(result: Result) -> str:
    """A row per model, kind of prompt, engine and value of sparsity_p."""
    return capacity_table(result)


def figures(result: Result) -> "dict[str, Figure]":
    """Concurrency, throughput in both regimes and KV bytes of a request over sparsity_p."""
    return capacity_figures(result)
