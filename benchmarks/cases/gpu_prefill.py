"""What one layer's sparse prefill spends in estimate, select, attend and compact, beside dense attention."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.device import require_cuda
from benchmarks.gpu.dimensions import MODELS, Dimensions
from benchmarks.gpu.prompts import BLOCK_SIZE, prefill_step
from benchmarks.measure import spread
from benchmarks.plots import line_figure
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONTEXTS = (4096, 32768, 127488)
DENSE_STAGE, COMMITTED_STAGES = "dense attention", ("estimate", "select", "compact")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    models = sorted(path.name for path in MODELS.iterdir())
    parser.add_argument("--model", default="qwen2_5_vl_7b", choices=models, help="dimensions (default: %(default)s)")
    parser.add_argument("--contexts", type=int, nargs="+", default=list(CONTEXTS), help="(default: %(default)s)")
    parser.add_argument("--token-ratio", type=float, default=0.25, help="(default: %(default)s)")


def run(args: argparse.Namespace) -> Result:
    """Time every stage at every context."""
    require_cuda()
    summary, samples = [], []
    for context in args.contexts:
        times_ms = {name: time_ms(stage) for name, stage in stages(args, context).items()}
        dense = spread(times_ms[DENSE_STAGE]).median
        for name, times in times_ms.items():
            figures = spread(times)
            row = {"context": context, "stage": name, **figures._asdict()}
            summary.append(row | {"share_of_dense_attention": figures.median / dense})
            samples.append({"context": context, "stage": name, "times_ms": [round(t, 5) for t in times]})
    return Result(
        case="gpu_prefill",
        arguments={key: getattr(args, key) for key in ("model", "contexts", "token_ratio")},
        environment=describe(model=args.model),
        units={
            "median": "ms",
            "p20": "ms",
            "p80": "ms",
            "times_ms": "ms",
            "share_of_dense_attention": "median / median of dense attention",
        },
        summary=summary,
        samples=samples,
    )


def stages(args: argparse.Namespace, context: int) -> dict[str, Callable[[], Any]]:
    """The stages of one prompt in one layer, on inputs that the stages before them made."""
    from benchmarks.gpu import prefill_stages

    dims, device = Dimensions.read(args.model), torch.device("cuda")
    step = prefill_step((context,), (0.5,), dims.num_heads, dims.num_kv_heads, dims.head_size, device)
    importance = prefill_stages.estimate(step)
    rank, num_kept = prefill_stages.select(step, importance, args.token_ratio)
    out, removals = torch.empty_like(step.query), step.removals()
    shape = 2, step.num_blocks, BLOCK_SIZE, dims.num_kv_heads, dims.head_size
    cache = torch.zeros(shape, dtype=step.key.dtype, device=device)
    # Dense attention takes the prompt alone.
    tokens, slots = step.tokens(0), torch.arange(len(step.query), device=device).clamp_max(context)
    query, key, value = (part[tokens] for part in (step.query, step.key, step.value))
    offsets = torch.tensor([0, context], dtype=torch.int32, device=device)
    return {
        DENSE_STAGE: lambda: prefill_stages.flash_attention(query, key, value, offsets, context, step.scale),
        "dense cache write": lambda: prefill_stages.write_cache(step, slots, cache),
        "estimate": lambda: prefill_stages.estimate(step),
        "select": lambda: prefill_stages.select(step, importance, args.token_ratio),
        "attend": lambda: prefill_stages.attend_zipvl_step(step, rank, num_kept, out),
        "compact": lambda: prefill_stages.compact(step, rank, num_kept, removals, cache),
    }


def time_ms(stage: Callable[[], Any]) -> list[float]:
    """Milliseconds of single runs between device events, the L2 cache flushed before each."""
    import triton

    return triton.testing.do_bench(stage, warmup=50, rep=300, return_mode="all")


def table(result: Result) -> str:
    """A row per context and stage."""
    rows = [
        [
            str(row["context"]),
            row["stage"],
            f"{row['median']:.3f} ({row['p20']:.3f} to {row['p80']:.3f})",
            f"{row['share_of_dense_attention']:.3f}",
        ]
        for row in result.summary
    ]
    return markdown_table(["tokens", "stage", "ms per layer (p20 to p80)", "share of dense attention"], rows)


def figures(result: Result) -> "dict[str, Figure]":
    """Time of every stage against context."""
    stages = dict.fromkeys(row["stage"] for row in result.summary)
    series = {
        stage: tuple(
            [row[key] for row in result.summary if row["stage"] == stage] for key in ("context", "median", "p20", "p80")
        )
        for stage in stages
    }
    title = "One layer's prefill by stage (bands: p20 to p80)"
    return {"stages": line_figure(series, "context, tokens", "time, ms per layer", title, log_x=True, log_y=True)}
