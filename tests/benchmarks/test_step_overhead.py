"""The scheduler case on a small setting: every variant decodes to its end, and figures relate as they claim.

The bound on the time, where nothing else runs: `pytest -m slow tests/benchmarks/test_step_overhead.py`.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from statistics import mean
from types import FrameType

import pytest

from benchmarks import schedulers
from benchmarks.cases import step_overhead
from benchmarks.errors import BenchmarkError
from benchmarks.schedulers import VARIANTS
from measurement.results import Result


def arguments(*argv: str) -> Namespace:
    parser = ArgumentParser()
    step_overhead.add_arguments(parser)
    return parser.parse_args(argv)


@pytest.fixture(scope="module")
def result():
    points = ("--num-layers", "2", "4", "--num-requests", "6")
    return step_overhead.run(arguments(*points, "--prompt-tokens", "160", "--steps", "40", "--rounds", "1"))


def test_every_variant_has_one_time_per_step_at_every_point(result):
    times = [(row["num_layers"], row["num_requests"], row["variant"], len(row["times"])) for row in result.samples]
    assert times == [(layers, 6, variant.name, 40) for layers in (2, 4) for variant in VARIANTS]
    assert {step_overhead.BASELINE, *step_overhead.OURS} < {variant.name for variant in VARIANTS}
    assert all(row["p20"] <= row["median"] <= row["p80"] for row in result.summary)


def test_ratio_is_to_the_baseline(result):
    baselines = {row["num_layers"]: row for row in result.summary if row["variant"] == step_overhead.BASELINE}
    assert [row["ratio"] for row in baselines.values()] == [1.0, 1.0]
    for row in result.summary:
        assert row["ratio"] == pytest.approx(row["median"] / baselines[row["num_layers"]]["median"])


def num_calls(work: Callable[[], object]) -> int:
    """Functions that Python calls for it, those written in C included: the same on every machine."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_a_group_per_layer_calls_at_most_1_2_times_as_many_functions_as_stock(monkeypatch):
    """28 layers, 64 requests. In place of the time of a step, which the machine's other work sways."""
    step = schedulers._step
    monkeypatch.setattr(schedulers, "_step", lambda *arguments: num_calls(partial(step, *arguments)))
    options = ("--num-layers", "28", "--num-requests", "64", "--steps", "32", "--rounds", "1")
    calls = {row["variant"]: mean(row["times"]) for row in step_overhead.run(arguments(*options)).samples}
    ratios = {name: calls[name] / calls[step_overhead.BASELINE] for name in step_overhead.OURS}
    assert {name: ratio for name, ratio in ratios.items() if ratio > 1.2} == {}


@pytest.mark.slow
def test_a_group_per_layer_takes_at_most_1_3_times_as_long_as_stock():
    """28 layers, 64 requests, on a machine that does nothing else. The p20 leaves out what others do to a step."""
    result = step_overhead.run(arguments("--num-layers", "28", "--num-requests", "64", "--rounds", "4"))
    p20_ms = {row["variant"]: row["p20"] for row in result.summary}
    ratios = {name: p20_ms[name] / p20_ms[step_overhead.BASELINE] for name in step_overhead.OURS}
    assert {name: ratio for name, ratio in ratios.items() if ratio > 1.3} == {}


def grid(points: dict[tuple[int, int], float]) -> Result:
    """A result whose sparse variant has these ratios, and whose dense one twice as much."""
    factors = {step_overhead.BASELINE: None, step_overhead.OURS[0]: 2.0, step_overhead.OURS[1]: 1.0}
    rows = []
    for (num_layers, num_requests), ratio in points.items():
        for variant, factor in factors.items():
            value = 1.0 if factor is None else factor * ratio
            times = {"median": 10 * value, "p20": 9 * value, "p80": 11 * value, "ratio": value}
            rows.append({"num_layers": num_layers, "num_requests": num_requests, "variant": variant, **times})
    return Result("step_overhead", {}, {}, {}, rows, [])


GRID = grid({(4, 1): 0.5, (4, 64): 0.6, (28, 1): 0.7, (28, 64): 0.8})


def test_table_shows_28_layers_and_64_requests_and_the_grid_below():
    lines = step_overhead.table(GRID).splitlines()
    assert lines[2:5] == [
        "| vLLM AsyncScheduler, 1 group | 1.00 | 0.90 | 1.10 |",
        "| TopPScheduler, dense requests | 1.60 | 1.44 | 1.76 |",
        "| TopPScheduler, sparse requests | 0.80 | 0.72 | 0.88 |",
    ]
    assert "| TopPScheduler, sparse requests | 4 | 0.50 | 0.60 |" in lines
    assert "| TopPScheduler, dense requests | 28 | 1.40 | 1.60 |" in lines


def test_heat_maps_hold_the_ratios():
    figures = step_overhead.figures(GRID)
    assert list(figures) == ["dense-requests", "sparse-requests"]
    axes = figures["sparse-requests"].axes[0]
    assert axes.images[0].get_array().tolist() == [[0.5, 0.6], [0.7, 0.8]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["4 layers", "28 layers"]


def test_one_point_is_a_table_and_no_figure():
    single = grid({(2, 3): 1.5})
    assert step_overhead.table(single).count("TopPScheduler") == 2
    assert step_overhead.figures(single) == {}


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["--rounds", "0"], "--rounds is 0"), (["--prompt-tokens", "4096"], "requests of 4256 tokens, but 4096")],
)
def test_bad_input_is_refused(argv, message):
    with pytest.raises(BenchmarkError, match=message):
        step_overhead.run(arguments(*argv))
