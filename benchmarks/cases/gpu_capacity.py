"""How fast a KV cache that is full decodes: as many requests as it holds, at equal memory, against stock vLLM."""

import argparse
from typing import TYPE_CHECKING

from benchmarks.engine.measures import MAX_TOKENS
from benchmarks.gpu.comparison import UNITS, Point, Setting, compare
from benchmarks.gpu.device import require_cuda
from benchmarks.gpu.dimensions import MODELS
from benchmarks.gpu.figures import full_cache_figures
from benchmarks.gpu.tables import comparison_table
from measurement.environment import describe
from measurement.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In this order, until no time is left.
CONTEXTS = (32768, 4096, 128_000 - MAX_TOKENS)
MAX_NUM_SEQS = 512
CAPTURE_SIZES = (1, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    models = sorted(path.name for path in MODELS.iterdir())
    parser.add_argument("--model", default="qwen2_5_vl_7b", choices=models, help="dimensions (default: %(default)s)")
    parser.add_argument("--kv-gib", type=float, default=24.0, help="KV memory of either engine (default: %(default)s)")
    parser.add_argument(
        "--token-ratio", type=float, default=0.25, help="kept by sparse requests (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=48, help="timed steps of a point (default: %(default)s)")
    parser.add_argument("--limit-s", type=float, default=480.0, help="for everything (default: %(default)s)")
    parser.add_argument("--contexts", type=int, nargs="+", default=list(CONTEXTS), help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts (default: %(default)s)")


def run(args: argparse.Namespace) -> Result:
    """Fill and measure stock vLLM, then ours."""
    require_cuda()
    setting = Setting(
        model=args.model,
        kv_cache_bytes=int(args.kv_gib * 2**30),
        max_num_seqs=MAX_NUM_SEQS,
        capture_sizes=CAPTURE_SIZES,
        token_ratio=args.token_ratio,
        steps=args.steps,
        limit_s=args.limit_s,
        seed=args.seed,
    )
    summary, samples, machine = compare([Point("decode", context, 0) for context in args.contexts], setting)
    keys = ("model", "kv_gib", "token_ratio", "steps", "limit_s", "contexts")
    return Result(
        case="gpu_capacity",
        arguments={key: getattr(args, key) for key in keys},
        environment=describe(model=args.model, weights="random", seed=args.seed, **machine),
        units=UNITS,
        summary=summary,
        samples=samples,
    )


def table(result: Result) -> str:
    """A row per context and mode."""
    return comparison_table(result)


def figures(result: Result) -> "dict[str, Figure]":
    """Concurrency and throughput against context."""
    return full_cache_figures(result)
