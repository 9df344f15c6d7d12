"""The demo model generates on the GPU: ours against stock vLLM, with and without CUDA graphs, keys mode, fp8 cache."""

import argparse
import time
from typing import TYPE_CHECKING, Any

from benchmarks.engine.engines import run_engine, specification
from benchmarks.gpu.answers import DEMO_MODEL
from benchmarks.gpu.device import require_cuda
from benchmarks.gpu.tables import error_line
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRUNED_P = 0.9
ENGINE = {
    "model": str(DEMO_MODEL),
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "max_num_batched_tokens": 2048,
    "max_num_seqs": 8,
    "block_size": 16,
    "gpu_memory_utilization": 0.5,
    "kv_cache_memory_bytes": 1 << 30,
    "enable_prefix_caching": False,
    "enable_chunked_prefill": False,
    "limit_mm_per_prompt": {"image": 1, "video": 0},
    "disable_log_stats": True,
    "seed": 0,
}
STOCK = {"attention_backend": "FLASH_ATTN"}
EAGER, GRAPHS = {"enforce_eager": True}, {"compilation_config": {"cudagraph_capture_sizes": [1, 2, 4, 8]}}
FP8 = {"kv_cache_dtype": "fp8"}
# Name, engine arguments, selection (None: stock vLLM), and the variant whose tokens p = 1 must give.
VARIANTS: tuple[tuple[str, dict[str, Any], str | None, str | None], ...] = (
    ("stock", EAGER | STOCK, None, None),
    ("zipvl", EAGER, "zipvl", "stock"),
    ("stock, graphs", GRAPHS | STOCK, None, None),
    ("zipvl, graphs", GRAPHS, "zipvl", "stock, graphs"),
    ("keys, graphs", GRAPHS, "keys", "stock, graphs"),
    ("stock, fp8", EAGER | FP8 | STOCK, None, None),
    ("zipvl, fp8", EAGER | FP8, "zipvl", "stock, fp8"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    names = [name for name, *_ in VARIANTS]
    parser.add_argument("--variants", nargs="+", default=names, choices=names, help="(default: all)")
    parser.add_argument("--engine-limit-s", type=float, default=75.0, help="for one engine (default: %(default)s)")
    parser.add_argument("--limit-s", type=float, default=380.0, help="for all of them (default: %(default)s)")


def run(args: argparse.Namespace) -> Result:
    """Start one engine after the other and compare their answers."""
    require_cuda()
    summary: list[dict[str, Any]] = []
    dense_tokens: dict[str, Any] = {}
    end_s = time.monotonic() + args.limit_s
    for name, arguments, selection, baseline in VARIANTS:
        if name not in args.variants:
            continue
        sparsity = selection and {"selection": selection}
        values = (1.0, PRUNED_P) if selection else (1.0,)
        points = [{"kind": "answers", "sparsity_p": value} for value in values]
        run = run_engine(
            specification(ENGINE | arguments, points, sparsity), min(args.engine_limit_s, end_s - time.monotonic())
        )
        answered = [row for row in run.rows if row["kind"] == "answers"]
        dense_tokens[name] = next((row["token_ids"] for row in answered if "token_ids" in row), None)
        for row in answered + [point | {"error": run.error or "not measured"} for point in points[len(answered) :]]:
            summary.append({"variant": name, "baseline": baseline} | judged(row, dense_tokens.get(baseline)))
    return Result(
        case="gpu_smoke",
        arguments={"variants": args.variants, "engine_limit_s": args.engine_limit_s},
        environment=describe(model="demo"),
        units={
            "text": "answer to the demo question",
            "verdict": "what the answers say",
            "token_ratios": "tokens kept / tokens, by request",
        },
        summary=summary,
        samples=[],
    )


def judged(row: dict[str, Any], baseline_tokens: list[list[int]] | None) -> dict[str, Any]:
    """A row with `passed` and why."""
    if "error" in row:
        return row | {"passed": False, "verdict": "error"}
    if row["sparsity_p"] < 1.0:
        passed = all(ratio is not None and ratio < 1.0 for ratio in row["token_ratios"]) and bool(row["text"])
        return row | {"passed": passed, "verdict": "prunes and answers" if passed else "pruned nothing, or no answer"}
    if baseline_tokens is None:
        return row | {"passed": bool(row["text"]), "verdict": "answers"}
    passed = row["token_ids"] == baseline_tokens
    return row | {"passed": passed, "verdict": "tokens of stock vLLM" if passed else "other tokens than stock vLLM"}


def table(result: Result) -> str:
    """A row per engine and value of sparsity_p."""
    return markdown_table(
        ["engine", "`sparsity_p`", "answer to the demo question", "token ratio", "verdict", "result"],
        [
            [
                row["variant"],
                f"{row['sparsity_p']:g}",
                error_line(row.get("text", row.get("error", ""))),
                f"{ratio:.3f}" if (ratio := (row.get("token_ratios") or [None])[0]) is not None else "-",
                row["verdict"],
                "pass" if row["passed"] else "**FAIL**",
            ]
            for row in result.summary
        ],
    )


def figures(result: Result) -> "dict[str, Figure]":
    """Nothing to draw."""
    return {}
