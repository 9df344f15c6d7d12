"""What repeated measurements of one load come to, and the Pareto front of a sweep."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.load.generator import Load, Measurement
from benchmarks.measure import spread

PERCENTILES = (50, 90, 99)
LATENCIES = ("ttft_ms", "tpot_ms", "itl_ms")
RATES = ("output_throughput", "request_throughput", "goodput")
UNITS = {
    **{f"{latency[:-3]}_p{percentile}_ms": "ms" for latency in LATENCIES for percentile in PERCENTILES},
    "output_throughput": "generated tokens/s",
    "request_throughput": "requests/s",
    "goodput": "requests/s within the service-level objective",
    "peak_kv_usage": "KV blocks in use / KV blocks, largest seen",
    "num_preemptions": "requests",
    "accuracy": "share of exact answers",
    "token_ratio": "tokens kept / tokens",
    "kv_ratio": "KV blocks kept / KV blocks",
    "ttfts": "ms",
    "tpots": "ms",
}


def point(mode: str, load: Load, rounds: Sequence[Measurement]) -> dict[str, Any]:
    """One row: percentiles of latencies over the requests of all rounds, and the spread of rates over rounds."""
    row: dict[str, Any] = {"mode": mode, load.kind: load.value, "num_requests": sum(len(run.texts) for run in rounds)}
    for latency in LATENCIES:
        values = [value for run in rounds for value in getattr(run, latency)]
        for percentile in PERCENTILES:
            row[f"{latency[:-3]}_p{percentile}_ms"] = float(np.percentile(values, percentile))
    for rate in RATES:
        of_rounds = spread([getattr(run, rate) for run in rounds])
        row |= {rate: of_rounds.median, f"{rate}_p20": of_rounds.p20, f"{rate}_p80": of_rounds.p80}
    row["peak_kv_usage"] = max(run.peak_kv_usage for run in rounds)
    row["num_preemptions"] = median(run.num_preemptions for run in rounds)
    return row


def sample(mode: str, load: Load, index: int, run: Measurement) -> dict[str, Any]:
    """One round, with the latencies of its requests."""
    return {
        "mode": mode,
        load.kind: load.value,
        "round": index,
        **{rate: round(getattr(run, rate), 4) for rate in RATES},
        "peak_kv_usage": round(run.peak_kv_usage, 4),
        "num_preemptions": run.num_preemptions,
        "ttfts": [round(value, 2) for value in run.ttft_ms],
        "tpots": [round(value, 3) for value in run.tpot_ms],
    }


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (latency, throughput) pairs that no other pair beats in one and equals in the other, by rising latency."""
    front: list[tuple[float, float]] = []
    # Of equal latencies the largest throughput comes first.
    for latency, throughput in sorted(points, key=lambda pair: (pair[0], -pair[1])):
        if not front or throughput > front[-1][1]:
            front.append((latency, throughput))
    return front
