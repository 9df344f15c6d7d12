"""What a prefill costs on CPU: one layer's stages beside dense attention, and the whole way to the first token.

The stages run on random tensors of given dimensions at a given token ratio; the first token is that of questions about
real pictures, ours against stock vLLM.
"""

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.cpu import options
from benchmarks.cpu.cells import cell, share_of_mass, with_spread
from benchmarks.cpu.engines import Pair, check_pair, engine_arguments, pair
from benchmarks.cpu.lines import over_context
from benchmarks.cpu.prefill_stages import DENSE, STAGES, Heads, Prompt, times_ms
from benchmarks.cpu.rounds import Row, in_turns, num_runs, spreads
from benchmarks.engine.scenes import CONTEXTS, max_prompt_tokens
from benchmarks.errors import BenchmarkError
from benchmarks.gpu.dimensions import MODELS, Dimensions
from benchmarks.measure import spread
from benchmarks.plots import line_figure
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_MODEL_LEN, MAX_NUM_SEQS = 8192, 8
NUM_QUESTIONS = 4
STAGE, FIRST_TOKEN = "stage", "first token"
STOCK, OURS = "stock vLLM", "Winnow"
UNITS = {
    "stage_ms": "ms per layer",
    "share_of_dense_attention": "stage_ms / that of dense attention",
    "first_token_ms": "ms from a rendered prompt to its first token, vision tower included",
    "speedup": "first_token_ms of stock vLLM right before and after / first_token_ms",
    "times_ms": "ms",
}
SHORT = {
    "tokens": [1024, 4096],
    "contexts": ["picture 8x8", "picture 32x32", "4 pictures 32x32"],
    "repeats": 5,
    "rounds": 1,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    dimensions = sorted(path.name for path in MODELS.iterdir())
    parser.add_argument(
        "--dimensions", default="qwen2_5_vl_7b", choices=dimensions, help="of the stages (default: %(default)s)"
    )
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192], help="of the stages (default: %(default)s)"
    )
    parser.add_argument("--token-ratio", type=float, default=0.25, help="kept by the stages (default: %(default)s)")
    options.add_models(parser, ("demo-sparse",))
    options.add_sparsity_p(parser, (1.0, 0.975))
    options.add_scenes(parser, "--contexts", CONTEXTS, CONTEXTS)
    options.add_count(parser, "--repeats", 7, "timed in every turn")
    options.add_count(parser, "--rounds", 3, "turns of every value, to the first token")
    options.add_seed(parser)


def run(args: argparse.Namespace) -> Result:
    """Time the stages in this process, then first tokens in engines."""
    options.check_counts(args, "tokens", "repeats", "rounds")
    if not 0 < args.token_ratio <= 1:
        raise BenchmarkError(f"--token-ratio is {args.token_ratio:g}, but must be in (0, 1]. Give such a number.")
    args.sparsity_p = options.checked_sparsity_p(args.sparsity_p)
    models = options.checked_models(args.models)
    summary, samples = [], []
    in_engines = len(models) * len(args.contexts) * num_runs(len(args.sparsity_p), args.rounds)
    with tqdm(total=len(args.tokens) + in_engines, desc="prefill", unit="run", leave=None) as progress:
        for num_tokens in args.tokens:
            rows, singles = _time_stages(num_tokens, args)
            summary += rows
            samples += singles
            progress.update()
        for model in models:
            longest = max(map(max_prompt_tokens, args.contexts))
            arguments = engine_arguments(model, model.kv_bytes(2, longest), MAX_MODEL_LEN, MAX_NUM_SEQS)
            with pair(model, arguments, args.seed) as engines:
                for scenes in args.contexts:
                    check_pair(engines, scenes, NUM_QUESTIONS, args.sparsity_p)
                for scenes in args.contexts:
                    rows, singles = _time_first_tokens(engines, model.name, scenes, args, progress)
                    summary += rows
                    samples += singles
    keys = ("dimensions", "tokens", "token_ratio", "models", "sparsity_p", "contexts", "repeats", "rounds")
    return Result(
        case="prefill",
        arguments={key: getattr(args, key) for key in keys},
        environment=describe(model=", ".join(model.name for model in models), seed=args.seed),
        units=UNITS,
        summary=summary,
        samples=samples,
    )


def _time_stages(num_tokens: int, args: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Summary rows and samples of one prompt length."""
    dims = Dimensions.read(args.dimensions)
    prompt = Prompt(num_tokens, Heads(dims.num_heads, dims.num_kv_heads, dims.head_size), args.token_ratio)
    prompt.check()
    times = times_ms(prompt.stages(), args.repeats)
    dense_ms = spread(times[DENSE]).median
    summary, samples = [], []
    for name, of_stage in times.items():
        where = {"part": STAGE, "context": num_tokens, "stage": name}
        figures = spreads({"stage_ms": of_stage})
        summary.append(where | figures | {"share_of_dense_attention": figures["stage_ms"] / dense_ms})
        samples.append(where | {"times_ms": [round(time_ms, 4) for time_ms in of_stage]})
    return summary, samples


def _time_first_tokens(
    engines: Pair, model: str, scenes: str, args: argparse.Namespace, progress: tqdm
) -> tuple[list[Row], list[Row]]:
    """Summary rows and samples of one kind of prompt."""

    def point(sparsity_p: float) -> dict[str, Any]:
        asked = {"kind": "prefill", "scenes": scenes, "num_questions": NUM_QUESTIONS, "profile": False}
        return asked | {"repeats": args.repeats, "sparsity_p": sparsity_p}

    variants = {value: partial(engines.ours.measure, point(value)) for value in args.sparsity_p}
    stock, turns = in_turns(partial(engines.stock.measure, point(1.0)), variants, args.rounds, progress.update)
    summary, samples = [], []
    for value, rows in {None: stock, **{value: [turn.row for turn in turns[value]] for value in turns}}.items():
        where = {"part": FIRST_TOKEN, "model": model, "scenes": scenes, "context": round(rows[0]["prompt_tokens"])}
        where |= {"engine": STOCK if value is None else OURS, "sparsity_p": value}
        samples += [where | {"times_ms": row["times_ms"]} for row in rows]
        summary.append(where | spreads({"first_token_ms": [time_ms for row in rows for time_ms in row["times_ms"]]}))
        if value is not None:
            summary[-1] |= spreads({"speedup": [1 / turn.ratio("prefill_ms") for turn in turns[value]]})
    return summary, samples


def table(result: Result) -> str:
    """The stages of a layer, then first tokens."""
    stages = [
        [
            f"{row['context']:,}",
            row["stage"],
            with_spread(row, "stage_ms", 3),
            cell(row["share_of_dense_attention"], 3),
        ]
        for row in _part(result, STAGE)
    ]
    first_tokens = [
        [
            row["model"],
            f"{row['context']:,}",
            row["engine"],
            share_of_mass(row["sparsity_p"]),
            with_spread(row, "first_token_ms", 1),
            with_spread(row, "speedup"),
        ]
        for row in _part(result, FIRST_TOKEN)
    ]
    header = ("model", "context, tokens", "engine", "`sparsity_p`", "time to first token, ms (p20 to p80)")
    return "\n\n".join(
        [
            f"One layer with the attention of {result.arguments['dimensions']}, token ratio "
            f"{result.arguments['token_ratio']:g}:",
            markdown_table(("tokens", "stage", "ms per layer (p20 to p80)", "share of dense attention"), stages),
            "Whole prompts:",
            markdown_table((*header, "times as fast as stock (p20 to p80)"), first_tokens),
        ]
    )


def _part(result: Result, part: str) -> list[Row]:
    return [row for row in result.summary if row["part"] == part]


def figures(result: Result) -> "dict[str, Figure]":
    """Time of every stage, and time to the first token, against context."""
    stages = _part(result, STAGE)
    series = {}
    for stage in (DENSE, *STAGES):
        rows = [row for row in stages if row["stage"] == stage]
        series[stage] = tuple(
            [row[key] for row in rows] for key in ("context", "stage_ms", "stage_ms_p20", "stage_ms_p80")
        )
    title = f"One layer's prefill by stage, {result.arguments['dimensions']} (bands: p20 to p80)"
    first_tokens = over_context(_part(result, FIRST_TOKEN), "first_token_ms")
    return {
        "stages": line_figure(series, "context, tokens", "time, ms per layer", title, log_x=True, log_y=True),
        "first-token": line_figure(
            first_tokens, "context, tokens", "time to first token, ms", "One prompt (bands: p20 to p80)", log_x=True
        ),
    }
