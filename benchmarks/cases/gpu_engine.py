"""Whole prefills and whole decode steps with random weights of true dimensions, against stock vLLM in the same run."""

import argparse
from typing import TYPE_CHECKING

from benchmarks.engine.measures import MAX_TOKENS
from benchmarks.gpu.comparison import DENSE, SPARSE, STOCK, UNITS, Point, Setting, compare
from benchmarks.gpu.device import require_cuda
from benchmarks.gpu.dimensions import MODELS, Dimensions
from benchmarks.gpu.figures import decode_figures, prefill_figures
from benchmarks.gpu.tables import comparison_table, kernel_table
from measurement.environment import describe
from measurement.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 128_000 - MAX_TOKENS
ALL = (STOCK, DENSE, SPARSE)
# Most important first: what no time is left for is left out.
POINTS = [
    Point("decode", 32768, 32, ALL),
    Point("prefill", 32768, modes=ALL),
    Point("decode", 512, 64, ALL),
    Point("decode", 4096, 8, ALL),
    Point("decode", 32768, 8),
    Point("decode", 4096, 1, ALL),
    Point("decode", 32768, 1),
    Point("prefill", 4096, modes=ALL, repeats=5),
    Point("decode", 16384, 8),
    Point("decode", 65536, 8),
    Point("prefill", LONGEST, repeats=2),
    Point("decode", LONGEST, 8),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    models = sorted(path.name for path in MODELS.iterdir())
    parser.add_argument("--model", default="qwen2_5_vl_7b", choices=models, help="dimensions (default: %(default)s)")
    parser.add_argument(
        "--token-ratio", type=float, default=0.25, help="kept by sparse requests (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=64, help="timed steps of a point (default: %(default)s)")
    parser.add_argument("--limit-s", type=float, default=530.0, help="for everything (default: %(default)s)")
    parser.add_argument("--max-context", type=int, default=LONGEST, help="leave longer points out")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts (default: %(default)s)")


def setting(args: argparse.Namespace, points: list[Point]) -> Setting:
    """A KV cache that holds the largest dense point, and a CUDA graph for every batch."""
    most_tokens = max(point.batch * (point.context + MAX_TOKENS) for point in points)
    return Setting(
        model=args.model,
        kv_cache_bytes=int(1.02 * most_tokens) * Dimensions.read(args.model).kv_bytes_per_token,
        max_num_seqs=max(point.batch for point in points),
        capture_sizes=tuple(sorted({point.batch for point in points})),
        token_ratio=args.token_ratio,
        steps=args.steps,
        limit_s=args.limit_s,
        seed=args.seed,
    )


def run(args: argparse.Namespace) -> Result:
    """Measure stock vLLM, then ours."""
    require_cuda()
    points = [point for point in POINTS if point.context <= args.max_context]
    summary, samples, machine = compare(points, setting(args, points))
    return Result(
        case="gpu_engine" if args.model == "qwen2_5_vl_7b" else f"gpu_engine-{args.model}",
        arguments={key: getattr(args, key) for key in ("model", "token_ratio", "steps", "limit_s", "max_context")},
        environment=describe(model=args.model, weights="random", seed=args.seed, **machine),
        units=UNITS,
        summary=summary,
        samples=samples,
    )


def table(result: Result) -> str:
    """A row per point and mode, and the kernels of the points that targets speak of."""
    return comparison_table(result) + "".join(kernel_table(result, POINTS[index].name) for index in range(3))


def figures(result: Result) -> "dict[str, Figure]":
    """Time per token at fixed batch, and time to the first token, against context."""
    return decode_figures(result) | prefill_figures(result)
