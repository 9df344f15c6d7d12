"""Load through HTTP on our server and on stock vLLM's: latencies, goodput, and throughput against latency.

Both servers run side by side with equal engine arguments, take turns, and get the same requests from vLLM's own load
generator. Nothing is timed before our answers at sparsity_p = 1 are stock vLLM's.
"""

import argparse
import asyncio
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import httpx
from tqdm import tqdm

from attention_backend.config import SERVED_SELECTIONS
from benchmarks.errors import BenchmarkError
from benchmarks.load.generator import Load, Measurement, Target, drive, sample_requests
from benchmarks.load.points import UNITS, pareto_front, point, sample
from benchmarks.load.prompts import long_questions
from benchmarks.plots import line_figure
from benchmarks.questions import Question, ask_all
from benchmarks.server_process import STOCK, STOCK_ENVIRONMENT, serving
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table
from server import demo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASELINE = "stock vLLM"
# The model that learned to keep few tokens, where it is bundled.
DEFAULT_MODEL = "demo-sparse" if demo.is_demo("demo-sparse") else "demo"
SHORT = {"concurrency": [1, 8], "requests": 16, "rounds": 1, "questions": 12, "output_tokens": 32}
# Alike for both servers. Repeated questions must not be found in a cache, and sparse prompts take one prefill step.
COMMON_OPTIONS = ("--no-enable-prefix-caching", "--no-enable-chunked-prefill", "--mm-processor-cache-gb", "0")
# A connection that was idle for vLLM's 5 seconds would close under the next request.
COMMON_ENVIRONMENT = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600"}
# Two servers share a GPU; how large their KV caches are is said apart.
CUDA_OPTIONS = ("--gpu-memory-utilization", "0.45")
# Holds nine of the longest questions of a demo model densely.
DEMO_KV_CACHE_MIB = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="a bundled model, a folder or an id (default: %(default)s)"
    )
    parser.add_argument("--engine-options", default="", help="further options of both servers, as one word")
    parser.add_argument(
        "--kv-cache-mib",
        type=int,
        help=f"KV cache of each server (bundled models: {DEMO_KV_CACHE_MIB}, so that high loads fill it; others: "
        "vLLM's choice)",
    )
    parser.add_argument("--selection", default="zipvl", choices=SERVED_SELECTIONS, help="(default: %(default)s)")
    parser.add_argument(
        "--sparsity-p", type=float, nargs="+", default=[0.975], help="beside 1, which always runs (default: 0.975)"
    )
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="requests in flight, a sweep"
    )
    parser.add_argument("--request-rate", type=float, nargs="+", help="requests a second, instead of --concurrency")
    parser.add_argument("--requests", type=int, default=48, help="of each point, at least (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of the whole sweep (default: %(default)s)")
    parser.add_argument("--questions", type=int, default=24, help="different prompts (default: %(default)s)")
    parser.add_argument("--min-visual-tokens", type=int, default=512, help="of a prompt (default: %(default)s)")
    parser.add_argument("--output-tokens", type=int, default=64, help="of every answer (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=5, help="of the prompts (default: %(default)s)")
    parser.add_argument(
        "--slo-scale",
        type=float,
        default=5.0,
        help="a good request is at most so many times slower than stock vLLM's median request alone (default: 5)",
    )
    parser.add_argument("--slo-ttft-ms", type=float, help="time to the first token of a good request, instead")
    parser.add_argument("--slo-tpot-ms", type=float, help="time per further token of a good request, instead")


def run(args: argparse.Namespace) -> Result:
    """Check, then measure every mode at every load in every round.

    Raises:
        BenchmarkError: bad input, a server that does not start, or answers that differ from stock vLLM's.
    """
    _check(args)
    questions = long_questions(args.seed, args.questions, args.min_visual_tokens)
    with _targets(args) as targets:
        alone = compare_answers(targets, questions, args.output_tokens)
        slo_ms = objective(alone, args)
        kept = {mode: kept_of(target, questions) for mode, target in targets.items() if mode != BASELINE}
        runs = _sweep(targets, questions, slo_ms, args)
    # Equal answers are equally right, and stock vLLM keeps everything.
    kept[BASELINE] = kept[mode_name(1.0)]
    keys = (
        "model", "engine_options", "kv_cache_mib", "selection", "sparsity_p", "concurrency", "request_rate", "requests",
        "rounds", "questions", "min_visual_tokens", "output_tokens", "seed", "slo_scale",
    )  # fmt: skip
    return Result(
        case="serve" if args.model == DEFAULT_MODEL else f"serve-{Path(args.model).name}",
        arguments={key: getattr(args, key) for key in keys} | {f"slo_{name}_ms": slo_ms[name] for name in slo_ms},
        environment=describe(model=args.model, seed=args.seed),
        units=UNITS,
        summary=[point(mode, load, runs[mode, load]) | kept[mode] for mode, load in runs],
        samples=[
            sample(mode, load, index, measured)
            for (mode, load), rounds in runs.items()
            for index, measured in enumerate(rounds)
        ],
    )


def _check(args: argparse.Namespace) -> None:
    counts = ("requests", "rounds", "questions", "output_tokens", "slo_scale", "slo_ttft_ms", "slo_tpot_ms")
    for name in (*counts, "kv_cache_mib", "concurrency", "request_rate"):
        value = getattr(args, name)
        if any(item is not None and item <= 0 for item in (value if isinstance(value, list) else [value])):
            raise BenchmarkError(f"--{name.replace('_', '-')} is {value}, but must be above 0. Give a larger number.")
    if not all(0 < sparsity_p <= 1 for sparsity_p in args.sparsity_p):
        raise BenchmarkError(f"--sparsity-p is {args.sparsity_p}, but must be above 0 and at most 1, such as 0.975.")
    if args.output_tokens < 2:
        raise BenchmarkError("--output-tokens is 1, but time per further token needs at least 2. Give a larger number.")


def mode_name(sparsity_p: float) -> str:
    """What a value of `sparsity_p` is called in rows and figures."""
    return f"sparsity_p {sparsity_p:g}"


@contextmanager
def _targets(args: argparse.Namespace) -> Iterator[dict[str, Target]]:
    """Both servers; mode -> where and how to ask."""
    model, options, environment = _engine(args)
    tqdm.write(f"serve: starting both servers of {args.model}")
    with (
        serving(model, options, STOCK, {**environment, **STOCK_ENVIRONMENT}) as stock_url,
        serving(model, [*options, "--selection", args.selection], environment=environment) as our_url,
    ):
        modes: dict[str, tuple[str, dict[str, float]]] = {BASELINE: (stock_url, {})}
        for sparsity_p in dict.fromkeys([1.0, *args.sparsity_p]):
            modes[mode_name(sparsity_p)] = (our_url, {"sparsity_p": sparsity_p})
        yield {mode: Target(url, _served_model(url), body) for mode, (url, body) in modes.items()}


def _engine(args: argparse.Namespace) -> tuple[str, list[str], dict[str, str | None]]:
    """Model, options and environment that both servers get."""
    model, options, environment = args.model, [*COMMON_OPTIONS], {**COMMON_ENVIRONMENT}
    if demo.is_demo(model):
        options += demo.options(model)
        environment |= demo.ENVIRONMENT
        model = str(demo.checkpoint(model))
        args.kv_cache_mib = args.kv_cache_mib or DEMO_KV_CACHE_MIB
    if args.device == "cuda":
        options += CUDA_OPTIONS
    if args.kv_cache_mib:
        options += ["--kv-cache-memory-bytes", str(args.kv_cache_mib << 20)]
        # vLLM's CPU platform would prefer it to the option.
        environment["VLLM_CPU_KVCACHE_SPACE"] = None
    return model, [*options, *shlex.split(args.engine_options)], environment


def _served_model(url: str) -> str:
    return httpx.get(f"{url}/v1/models", timeout=60).raise_for_status().json()["data"][0]["id"]


def compare_answers(targets: Mapping[str, Target], questions: Sequence[Question], output_tokens: int) -> Measurement:
    """Ask everything one by one, greedily and past the end of the answer; what stock vLLM measured alone.

    Raises:
        BenchmarkError: our answers at sparsity_p = 1 are not stock vLLM's.
    """
    requests = sample_requests(questions, len(questions), output_tokens)
    # The first pass warms both servers up.
    modes = (BASELINE, mode_name(1.0), BASELINE)
    _, ours, stock = (drive(targets[mode], requests, Load("concurrency", 1)) for mode in modes)
    differing = [index for index, pair in enumerate(zip(stock.texts, ours.texts, strict=True)) if pair[0] != pair[1]]
    if differing:
        first = differing[0]
        raise BenchmarkError(
            f"our answers at sparsity_p = 1 differ from stock vLLM's for {len(differing)} of {len(requests)} "
            f"questions, so nothing was timed. Question {first} got {ours.texts[first]!r}, not {stock.texts[first]!r}."
        )
    return stock


def objective(alone: Measurement, args: argparse.Namespace) -> dict[str, float]:
    """The service-level objective in milliseconds, by "ttft" and "tpot".

    Args:
        alone: stock vLLM, one request at a time.
        args: what was asked for instead.
    """
    values = {"ttft": (args.slo_ttft_ms, alone.ttft_ms), "tpot": (args.slo_tpot_ms, alone.tpot_ms)}
    return {
        name: given or args.slo_scale * sorted(measured)[len(measured) // 2]
        for name, (given, measured) in values.items()
    }


def kept_of(target: Target, questions: Sequence[Question]) -> dict[str, float]:
    """Accuracy and what was kept, of one mode of our server.

    Raises:
        BenchmarkError: the replies report another `sparsity_p` than was asked for.
    """
    sparsity_p = target.extra_body["sparsity_p"]
    replies = asyncio.run(ask_all(target.url, questions, sparsity_p, concurrency=4))
    if (reported := {reply.sparsity["sparsity_p"] for reply in replies}) != {sparsity_p}:
        raise BenchmarkError(f"sparsity_p of the replies is {sorted(reported)}, but {sparsity_p} was asked for.")
    return {
        "accuracy": mean(reply.is_correct for reply in replies),
        **{name: mean(reply.sparsity[name] for reply in replies) for name in ("token_ratio", "kv_ratio")},
    }


def _sweep(
    targets: Mapping[str, Target], questions: Sequence[Question], slo_ms: Mapping[str, float], args: argparse.Namespace
) -> dict[tuple[str, Load], list[Measurement]]:
    """All rounds of every mode at every load. Modes take turns, and every round begins with another one."""
    kind = "request_rate" if args.request_rate else "concurrency"
    loads = [Load(kind, value) for value in getattr(args, kind)]
    modes = list(targets)
    runs: dict[tuple[str, Load], list[Measurement]] = {(mode, load): [] for load in loads for mode in modes}
    turns = [
        (load, modes[(index + turn) % len(modes)])
        for turn in range(args.rounds)
        for load in loads
        for index in range(len(modes))
    ]
    for load, mode in tqdm(turns, desc="serve", unit="run", leave=None):
        requests = sample_requests(questions, load.num_requests(args.requests), args.output_tokens)
        runs[mode, load].append(drive(targets[mode], requests, load, slo_ms))
    return runs


def _load_kind(result: Result) -> str:
    return "request_rate" if result.arguments["request_rate"] else "concurrency"


def table(result: Result) -> str:
    """A row per load and mode, what the modes keep, and how it was measured."""
    kind, arguments = _load_kind(result), result.arguments

    def percentiles(row: Mapping[str, Any], latency: str) -> str:
        return " / ".join(f"{row[f'{latency}_p{percentile}_ms']:.3g}" for percentile in (50, 90, 99))

    def rate(row: Mapping[str, Any], name: str) -> str:
        return f"{row[name]:.3g} ({row[f'{name}_p20']:.3g} to {row[f'{name}_p80']:.3g})"

    header = [
        kind.replace("_", " "), "mode", "TTFT, ms", "TPOT, ms", "ITL, ms", "tokens/s", "goodput, requests/s",
        "KV cache in use", "preemptions",
    ]  # fmt: skip
    rows = [
        [
            f"{row[kind]:g}",
            row["mode"],
            *(percentiles(row, latency) for latency in ("ttft", "tpot", "itl")),
            rate(row, "output_throughput"),
            rate(row, "goodput"),
            f"{row['peak_kv_usage']:.0%}",
            f"{row['num_preemptions']:g}",
        ]
        for row in result.summary
    ]
    modes = {row["mode"]: row for row in result.summary}
    kept = [
        [mode, *(f"{row[key]:.3f}" for key in ("accuracy", "token_ratio", "kv_ratio"))] for mode, row in modes.items()
    ]
    cache = f"{arguments['kv_cache_mib']} MiB of KV cache each" if arguments["kv_cache_mib"] else "vLLM's KV cache size"
    return "\n\n".join(
        [
            markdown_table(header, rows),
            "Latencies are the 50th / 90th / 99th percentile over the requests of all rounds, rates the median and the "
            f"20th to 80th percentile of {arguments['rounds']} rounds. A good request has TTFT at most "
            f"{arguments['slo_ttft_ms']:.0f} ms and TPOT at most {arguments['slo_tpot_ms']:.1f} ms.",
            markdown_table(["mode", "accuracy", "token ratio", "KV ratio"], kept),
            f"{arguments['questions']} questions of at least {arguments['min_visual_tokens']} visual tokens in turn, "
            f"{arguments['output_tokens']} tokens generated for each, {cache}. Our answers at `sparsity_p` 1 were "
            "stock vLLM's before the first run.",
        ]
    )


def figures(result: Result) -> "dict[str, Figure]":
    """Throughput against both latencies, each mode's Pareto front, and goodput over load."""
    kind = _load_kind(result)
    modes = {row["mode"]: [other for other in result.summary if other["mode"] == row["mode"]] for row in result.summary}

    def front(latency: str) -> dict[str, tuple[list[float], list[float]]]:
        fronts = {
            mode: pareto_front((row[latency], row["output_throughput"]) for row in rows) for mode, rows in modes.items()
        }
        return {mode: tuple(map(list, zip(*pairs, strict=True))) for mode, pairs in fronts.items()}

    def over_load(name: str) -> dict[str, tuple[list[float], ...]]:
        keys = (kind, name, f"{name}_p20", f"{name}_p80")
        return {mode: tuple([row[key] for row in rows] for key in keys) for mode, rows in modes.items()}

    throughput, title = "generated tokens/s", "Throughput against latency, Pareto front"
    load_label = "requests in flight" if kind == "concurrency" else "requests sent, 1/s"
    return {
        "pareto-tpot": line_figure(front("tpot_p50_ms"), "time per output token, median, ms", throughput, title),
        "pareto-ttft": line_figure(front("ttft_p50_ms"), "time to first token, median, ms", throughput, title),
        "goodput": line_figure(
            over_load("goodput"), load_label, "good requests/s", "Requests within the objective", log_x=True
        ),
    }
