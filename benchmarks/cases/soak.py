"""Thousands of mixed requests on one server, with a KV cache that is too small for them: nothing may be lost.

Chat with no, one and several pictures, videos, streams, JSON, tool calls, several answers, other routes, clients that
leave, hostile media, bad fields and callers with policies, at mixed `sparsity_p`, in each selection mode. Every request
must get the status that it must get, and every greedy answer must be the one that the same request got alone; blocks,
memory and files must be back at the end. A run that breaks one of these writes nothing and says which request it was.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from attention_backend.config import SERVED_SELECTIONS
from benchmarks.errors import BenchmarkError
from benchmarks.plots import line_figure
from benchmarks.server_process import RunningServer, running_server
from benchmarks.soak.callers import KEY_FILE
from benchmarks.soak.driver import Leg, Wanted, soak
from benchmarks.soak.growth import MAX_MIB_PER_1000, MAX_UNSURE_MIB_PER_1000, growth_of
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL = "demo"
# The longest question and its longest answer fit, and the KV cache holds little more than one of them.
MAX_MODEL_LEN = 1280
KV_CACHE_MIB = 4
# What a request gets that says nothing: neither dense nor one of the values that others ask for.
DEFAULT_SPARSITY_P = 0.95
ENVIRONMENT = {
    # A connection that was idle for vLLM's 5 seconds would close under the next request.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600",
    # The CPU platform would prefer its own variable to the size of the KV cache.
    "VLLM_CPU_KVCACHE_SPACE": None,
    # What fills for a long time, up to a bound, would hide a leak: oneDNN keeps the code of 1,024 shapes, malloc a pool
    # for each thread that decodes, and of what is freed whatever is smaller than a limit that it raises itself.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "4",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_TOP_PAD_": "65536",
}
PERCENTILES = (50, 99)
UNITS = {
    "requests": "requests sent",
    "outcomes": "requests, by what came of them; `equal` and `tie` are greedy answers compared with those alone",
    "preemptions": "times that a request lost its KV cache and began again",
    "dropped_feedback": "pruning results whose request was gone or preempted",
    "refused_unauthorized": "requests with an unknown key, as the server counts them; clients saw as many",
    "refused_rate": "requests above a caller's rate, as the server counts them; clients saw as many",
    "peak_kv_usage": "KV blocks in use / KV blocks, largest seen",
    **{f"answered_p{p}_s": "s from sending a request to its whole answer" for p in PERCENTILES},
    **{f"refused_p{p}_s": "s from sending a request to its refusal" for p in PERCENTILES},
    **{f"slowdown_p{p}": "s of a greedy request / s of the same request alone" for p in PERCENTILES},
    "server_mib": "MiB of memory that only the HTTP process has, when idle",
    "engine_mib": "MiB of memory that only the engine's processes have, when idle",
    "server_growth": "MiB that the HTTP process grows in 1,000 requests: slope, and 95 % confidence interval",
    "engine_growth": "MiB that the engine's processes grow in 1,000 requests: slope, and 95 % confidence interval",
    "num_files": "open files, sockets and pipes, when idle",
    "num_threads": "threads, when idle",
    "seconds": "s of a leg",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    parser.add_argument(
        "--requests", type=int, default=10_000, help="of all selection modes together (default: %(default)s)"
    )
    parser.add_argument("--leg", type=int, default=250, help="requests between two looks (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=42, help="different greedy requests (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight (default: %(default)s)")
    parser.add_argument(
        "--selection",
        nargs="+",
        default=[*SERVED_SELECTIONS],
        choices=SERVED_SELECTIONS,
        help="a server of its own for each (default: all)",
    )
    parser.add_argument("--kv-cache-mib", type=int, default=KV_CACHE_MIB, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=5, help="of questions and draws (default: %(default)s)")
    parser.add_argument(
        "--max-growth-mib",
        type=float,
        default=MAX_MIB_PER_1000,
        help="memory that a process may grow in 1,000 requests, once warm (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> Result:
    """Soak a server in each mode.

    Raises:
        BenchmarkError: bad input, a server that does not start, or something that broke.
    """
    _check(args)
    wanted = Wanted(args.requests // len(args.selection), args.leg, args.prompts, args.concurrency, args.seed)
    summary, samples = [], []
    for selection in args.selection:
        with _server(args, selection) as server, _bar(wanted, selection) as bar:
            legs = asyncio.run(soak(server, wanted, bar.update))
            row = summarise(legs, args.leg)
            check_row(row, args.max_growth_mib)
        summary.append({"selection": selection, **row})
        samples += [{"selection": selection, "leg": index, **sample(leg)} for index, leg in enumerate(legs)]
    keys = ("requests", "leg", "prompts", "concurrency", "selection", "kv_cache_mib", "seed", "max_growth_mib")
    return Result(
        case="soak",
        arguments={key: getattr(args, key) for key in keys},
        environment=describe(model=MODEL, seed=args.seed),
        units=UNITS,
        summary=summary,
        samples=samples,
    )


def _bar(wanted: Wanted, selection: str) -> tqdm:
    return tqdm(total=wanted.num_requests, desc=f"soak, {selection}", unit="request", leave=None)


def _check(args: argparse.Namespace) -> None:
    for name in ("requests", "leg", "prompts", "concurrency", "kv_cache_mib", "max_growth_mib"):
        if getattr(args, name) <= 0:
            option = f"--{name.replace('_', '-')}"
            raise BenchmarkError(f"{option} is {getattr(args, name)}, but must be above 0. Give a larger number.")


@contextmanager
def _server(args: argparse.Namespace, selection: str) -> Iterator[RunningServer]:
    with TemporaryDirectory() as folder:
        key_file = Path(folder) / "keys.toml"
        key_file.write_text(KEY_FILE, encoding="utf-8")
        options = {
            "--selection": selection,
            "--sparsity-p": DEFAULT_SPARSITY_P,
            "--api-keys-file": key_file,
            "--max-model-len": MAX_MODEL_LEN,
            "--kv-cache-memory-bytes": args.kv_cache_mib << 20,
        }
        words = [str(word) for pair in options.items() for word in pair]
        with running_server(MODEL, words, environment=ENVIRONMENT) as server:
            yield server


def summarise(legs: Sequence[Leg], num_per_leg: int) -> dict[str, Any]:
    """The row of one mode."""
    times = {name: [value for leg in legs for value in getattr(leg, name)] for name in ("answered_s", "refused_s")}
    slowdowns = [value for leg in legs for value in leg.slowdowns]
    outcomes = sum((leg.outcomes for leg in legs), Counter())
    prints = [leg.footprint for leg in legs]
    return {
        "outcomes": dict(sorted(outcomes.items())),
        **{name: sum(leg.counted[name] for leg in legs) for name in legs[0].counted},
        "peak_kv_usage": max(leg.peak_kv_usage for leg in legs),
        **{f"{name[:-2]}_p{p}_s": _percentile(values, p) for name, values in times.items() for p in PERCENTILES},
        **{f"slowdown_p{p}": _percentile(slowdowns, p) for p in PERCENTILES},
        "server_mib": prints[-1].server_mib,
        "engine_mib": prints[-1].engine_mib,
        "server_growth": _growth([each.server_mib for each in prints], num_per_leg),
        "engine_growth": _growth([each.engine_mib for each in prints], num_per_leg),
        "num_files": prints[-1].num_files,
        "num_threads": prints[-1].num_threads,
    }


def _growth(levels_mib: Sequence[float], num_per_leg: int) -> dict[str, float] | None:
    growth = growth_of(levels_mib, num_per_leg)
    return None if growth is None else asdict(growth)


def _percentile(values: Sequence[float], percentile: int) -> float | None:
    return float(np.percentile(values, percentile)) if values else None


def sample(leg: Leg) -> dict[str, Any]:
    """The figures of one leg."""
    return {
        "requests": sum(leg.outcomes[name] for name in leg.outcomes if name not in ("equal", "tie")),
        "outcomes": dict(sorted(leg.outcomes.items())),
        **leg.counted,
        "peak_kv_usage": leg.peak_kv_usage,
        **{f"answered_p{p}_s": _percentile(leg.answered_s, p) for p in PERCENTILES},
        "server_mib": leg.footprint.server_mib,
        "engine_mib": leg.footprint.engine_mib,
        "num_files": leg.footprint.num_files,
        "num_threads": leg.footprint.num_threads,
        "seconds": leg.seconds,
    }


def check_row(row: dict[str, Any], max_growth_mib: float) -> None:
    """Raises:
    BenchmarkError: the run was too gentle to prove anything, or memory grew.
    """
    if not row["preemptions"]:
        raise BenchmarkError(
            f"No request was preempted, and at most {row['peak_kv_usage']:.0%} of the KV cache was in use, but a soak "
            "must see preemptions. Raise --concurrency, or lower --kv-cache-mib."
        )
    for process in ("server", "engine"):
        growth = row[f"{process}_growth"]
        if growth is None:
            continue
        grown = f"Memory of the {process} grew by {_interval(growth)} MiB in 1,000 requests, but"
        if growth["low"] > max_growth_mib:
            raise BenchmarkError(
                f"{grown} may grow by {max_growth_mib:g} (--max-growth-mib). Look for what is kept for each request."
            )
        if growth["high"] > MAX_UNSURE_MIB_PER_1000:
            raise BenchmarkError(
                f"{grown} must be known to be below {MAX_UNSURE_MIB_PER_1000:g}. Send more requests (--requests)."
            )


def table(result: Result) -> str:
    """A row per mode, and the rules that every request kept. The JSON has the times."""
    header = [
        "selection", "answered", "refused", "clients that left", "preemptions", "greedy answers as alone", "ties",
        "time / alone, p50, p99", "server, MiB (growth in 1,000 requests, 95 %)", "engine, MiB (the same)",
    ]  # fmt: skip
    rows = [
        [
            row["selection"],
            *map(str, _counts(row["outcomes"])),
            f"{row['preemptions']:.0f}",
            str(row["outcomes"].get("equal", 0)),
            str(row["outcomes"].get("tie", 0)),
            f"{row['slowdown_p50']:.1f}, {row['slowdown_p99']:.1f}",
            *(
                f"{row[f'{process}_mib']:.0f} ({_interval(row[f'{process}_growth'])})"
                for process in ("server", "engine")
            ),
        ]
        for row in result.summary
    ]
    arguments = result.arguments
    return "\n\n".join(
        [
            markdown_table(header, rows),
            f"{arguments['requests']:,} requests, {arguments['concurrency']} in flight, "
            f"{arguments['kv_cache_mib']} MiB of KV cache. Every one got the status that it must get; after every "
            f"{arguments['leg']} the server was idle and every KV block free; at the end the "
            f"{arguments['prompts']} greedy requests, alone again, got the answers of the beginning.",
        ]
    )


def _counts(outcomes: dict[str, int]) -> tuple[int, int, int]:
    """Answered, refused, left."""
    refused = sum(count for name, count in outcomes.items() if name.startswith("refused"))
    return outcomes.get("answered", 0), refused, outcomes.get("left", 0)


def _interval(growth: dict[str, float] | None) -> str:
    if growth is None:
        return "too short to say"
    return f"{growth['slope']:+.1f}, {growth['low']:+.1f} to {growth['high']:+.1f}"


def figures(result: Result) -> "dict[str, Figure]":
    """Memory of both processes over requests."""
    series = {}
    for selection in result.arguments["selection"]:
        legs = [row for row in result.samples if row["selection"] == selection]
        done = np.cumsum([row["requests"] for row in legs]).tolist()
        for process in ("server", "engine"):
            series[f"{process}, {selection}"] = (done, [row[f"{process}_mib"] for row in legs])
    return {"memory": line_figure(series, "requests", "MiB", "Memory of the idle server after each leg")}
