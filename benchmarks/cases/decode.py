"""Time per output token against context, with questions about real pictures: ours against stock vLLM.

Two regimes: a fixed batch, where both engines decode the same requests, and a full KV cache of equal size, where each
engine decodes as many as it holds.
"""

import argparse
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.cpu import options
from benchmarks.cpu.cells import cell, share_of_mass, with_spread
from benchmarks.cpu.engines import Pair, check_pair, engine_arguments, pair
from benchmarks.cpu.lines import over_context
from benchmarks.cpu.models import Model
from benchmarks.cpu.rounds import Row, in_turns, num_runs, spreads
from benchmarks.engine.measures import PROFILED_STEPS
from benchmarks.engine.scenes import CONTEXTS, max_prompt_tokens
from benchmarks.engine.step_engine import WARMUP_STEPS
from benchmarks.measure import spread
from benchmarks.plots import line_figure
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_MODEL_LEN, MAX_NUM_SEQS = 8192, 128
# Different pictures of the longest prompts take much memory.
NUM_QUESTIONS = 4
# Shorter prompts would need more requests than an engine may run before they fill a cache.
FULL_CACHE_FROM_TOKENS = 1000
FULL = "full cache"
STOCK, OURS = "stock vLLM", "Winnow"
UNITS = {
    "step_ms": "ms per decode step, which is the time per output token of a request",
    "batch": "requests in a step",
    "tokens_per_s": "generated tokens per second",
    "kv_bytes": "bytes of the KV blocks that requests hold",
    "host_ms": "ms per step in scheduler and model runner",
    "speedup": "tokens_per_s / that of stock vLLM right before and after",
    "times_ms": "ms",
}
SHORT = {"contexts": ["picture 8x8", "4 pictures 32x32"], "steps": 24, "rounds": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    options.add_models(parser, ("demo-sparse",))
    options.add_sparsity_p(parser, (1.0, 0.975))
    options.add_scenes(parser, "--contexts", CONTEXTS, CONTEXTS)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="fixed ones (default: %(default)s)")
    options.add_count(parser, "--steps", 48, "timed in every turn")
    options.add_count(parser, "--rounds", 3, "turns of every value")
    options.add_seed(parser)


def run(args: argparse.Namespace) -> Result:
    """Check, then measure, model after model and context after context."""
    options.check_counts(args, "batches", "steps", "rounds")
    args.sparsity_p = options.checked_sparsity_p(args.sparsity_p)
    models = options.checked_models(args.models)
    summary, samples = [], []
    points = [*product(args.contexts, args.batches), *((scenes, 0) for scenes in args.contexts if _can_fill(scenes))]
    total = len(models) * len(points) * num_runs(len(args.sparsity_p), args.rounds)
    with tqdm(total=total, desc="decode", unit="run", leave=None) as progress:
        for model in models:
            arguments = engine_arguments(model, _kv_bytes(model, args), MAX_MODEL_LEN, MAX_NUM_SEQS)
            with pair(model, arguments, args.seed) as engines:
                for scenes in args.contexts:
                    check_pair(engines, scenes, NUM_QUESTIONS, args.sparsity_p)
                for scenes, batch in points:
                    rows, singles = _measure(engines, model.name, scenes, batch, args, progress)
                    summary += rows
                    samples += singles
    keys = ("models", "sparsity_p", "contexts", "batches", "steps", "rounds")
    return Result(
        case="decode",
        arguments={key: getattr(args, key) for key in keys},
        environment=describe(
            model=", ".join(model.name for model in models),
            seed=args.seed,
            kv_cache_bytes={model.name: _kv_bytes(model, args) for model in models},
        ),
        units=UNITS,
        summary=summary,
        samples=samples,
    )


def _can_fill(scenes: str) -> bool:
    return max_prompt_tokens(scenes) >= FULL_CACHE_FROM_TOKENS


def _kv_bytes(model: Model, args: argparse.Namespace) -> int:
    """What the largest batch of the longest prompts takes."""
    generated = WARMUP_STEPS + args.steps + 2 * PROFILED_STEPS
    return model.kv_bytes(max(args.batches), max(map(max_prompt_tokens, args.contexts)) + generated)


def _measure(
    engines: Pair, model: str, scenes: str, batch: int, args: argparse.Namespace, progress: tqdm
) -> tuple[list[Row], list[Row]]:
    """Summary rows and samples of one context and one batch; 0 fills the cache."""

    def point(sparsity_p: float) -> dict[str, Any]:
        asked = {"kind": "decode", "scenes": scenes, "num_questions": NUM_QUESTIONS}
        return asked | {"batch": batch, "steps": args.steps, "sparsity_p": sparsity_p}

    variants = {value: partial(engines.ours.measure, point(value)) for value in args.sparsity_p}
    stock, turns = in_turns(partial(engines.stock.measure, point(1.0)), variants, args.rounds, progress.update)
    summary, samples = [], []
    for value, rows in {None: stock, **{value: [turn.row for turn in turns[value]] for value in turns}}.items():
        where = {
            "model": model,
            "scenes": scenes,
            "context": round(rows[0]["prompt_tokens"]),
            "regime": f"batch {batch}" if batch else FULL,
            "engine": STOCK if value is None else OURS,
            "sparsity_p": value,
        }
        samples += [where | {"batch": row["batch"], "times_ms": row["times_ms"]} for row in rows]
        summary.append(where | _figures(rows))
        if value is not None:
            summary[-1] |= spreads({"speedup": [turn.ratio("tokens_per_s") for turn in turns[value]]})
    return summary, samples


def _figures(rows: list[Row]) -> Row:
    """Of all steps of all rounds."""
    step = spread([time_ms for row in rows for time_ms in row["times_ms"]])
    return {
        "step_ms": step.median,
        "step_ms_p20": step.p20,
        "step_ms_p80": step.p80,
        **{
            name: spread([row[name] for row in rows]).median
            for name in ("batch", "tokens_per_s", "kv_bytes", "host_ms")
        },
    }


def table(result: Result) -> str:
    """A row per context, regime, engine and value of sparsity_p."""
    header = (
        "model",
        "context, tokens",
        "regime",
        "engine",
        "`sparsity_p`",
        "requests",
        "time per token, ms (p20 to p80)",
    )
    header += ("tokens/s", "vs. stock (p20 to p80)", "KV, MB")
    rows = [
        [
            row["model"],
            f"{row['context']:,}",
            row["regime"],
            row["engine"],
            share_of_mass(row["sparsity_p"]),
            cell(row["batch"], 0),
            with_spread(row, "step_ms"),
            cell(row["tokens_per_s"], 0),
            with_spread(row, "speedup"),
            cell(row["kv_bytes"] / 1e6, 1),
        ]
        for row in result.summary
    ]
    return markdown_table(header, rows)


def figures(result: Result) -> "dict[str, Figure]":
    """Time per token against context in every regime; concurrency, throughput and KV bytes against context."""
    drawn = {}
    for regime in dict.fromkeys(row["regime"] for row in result.summary):
        rows = [row for row in result.summary if row["regime"] == regime]
        name, title = regime.replace(" ", "-"), f"Decoding, {regime} (bands: p20 to p80)"
        drawn[f"time-{name}"] = line_figure(
            over_context(rows, "step_ms"), "context, tokens", "time per token, ms", title, log_x=True
        )
        if regime == FULL:
            for key, label in (("batch", "running requests"), ("tokens_per_s", "generated tokens per second")):
                series = over_context(rows, key)
                title = "Full KV cache of equal size"
                drawn[f"{key.replace('_', '-')}-{name}"] = line_figure(
                    series, "context, tokens", label, title, log_x=True
                )
        else:
            series = over_context(rows, "kv_bytes", scale=1e-6)
            title = f"KV memory, {regime}"
            drawn[f"kv-bytes-{name}"] = line_figure(series, "context, tokens", "KV blocks, MB", title, log_x=True)
    return drawn
