"""The targets of two CPU cores, from rows made here."""

import pytest

from benchmarks.cases.step_overhead import BASELINE, OURS
from benchmarks.cpu.targets import TARGETS, cpu_targets
from benchmarks.targets import NOT_MEASURED
from measurement.results import Result


def row(model: str, sparsity_p: float | None, scenes: str = "pictures", **figures: float) -> dict:
    return {"model": model, "scenes": scenes, "engine": "Winnow", "sparsity_p": sparsity_p, **figures}


@pytest.fixture
def capacity() -> Result:
    running, full, whole = "full_cache_bytes_vs_stock", "full_cache_throughput_vs_stock", "throughput_vs_stock"
    rows = [
        {"model": "demo", "scenes": "pictures", "engine": "stock vLLM", "sparsity_p": None, "tokens_per_s": 100.0},
        row("demo", 1.0, **{running: 0.5, full: 1.0, whole: 0.99}),
        row("demo", 1.0, "video", **{running: 0.5, full: 1.0, whole: 0.95}),
        row("demo", 0.975, running_vs_stock=1.3, kv_ratio=0.7, **{running: 0.93, full: 1.2, whole: 1.1}),
        row("demo-sparse", 0.975, running_vs_stock=3.0, kv_ratio=0.29, **{running: 0.91, full: 2.4, whole: 1.5}),
        row("demo-sparse", 0.975, "video", **{running: 0.97, full: 1.4, whole: 1.2}),
        {"model": "demo", "scenes": "video", "engine": "stock vLLM, fp8", "error": "not available"},
    ]
    return Result("capacity", {}, {}, {}, rows, [])


@pytest.fixture
def overhead() -> Result:
    ratios = {BASELINE: 1.0, OURS[0]: 1.31, OURS[1]: 0.8}
    rows = [
        {"num_layers": layers, "num_requests": 64, "variant": variant, "ratio": ratio + (layers == 4)}
        for layers in (4, 28)
        for variant, ratio in ratios.items()
    ]
    return Result("step_overhead", {}, {}, {}, rows, [])


def figures(results: dict[str, Result]) -> list[list[str]]:
    return [line.strip("| ").split(" | ")[2:] for line in cpu_targets(results).splitlines()[2:]]


def test_targets_by_hand(capacity, overhead):
    assert figures({"capacity": capacity, "step_overhead": overhead}) == [
        ["0.870", "**missed**"],
        ["0.910", "reached"],
        ["2.400", "reached"],
        ["0.950", "**missed**"],
        ["1.310", "**missed**"],
    ]


def test_nothing_is_printed_that_was_not_measured(capacity):
    assert figures({}) == [[NOT_MEASURED, "-"]] * len(TARGETS)
    capacity.summary[:] = capacity.summary[:2]
    assert figures({"capacity": capacity}) == [
        [NOT_MEASURED, "-"],
        [NOT_MEASURED, "-"],
        [NOT_MEASURED, "-"],
        ["0.990", "reached"],
        [NOT_MEASURED, "-"],
    ]
