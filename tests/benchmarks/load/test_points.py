"""Rows of a sweep, worked by hand."""

import pytest

from benchmarks.load.generator import Load, Measurement
from benchmarks.load.metrics import metric_sum
from benchmarks.load.points import UNITS, pareto_front, point, sample


def measurement(ttft_ms: list[float], throughput: float, preemptions: float = 0.0) -> Measurement:
    return Measurement(
        texts=["a"] * len(ttft_ms),
        ttft_ms=ttft_ms,
        tpot_ms=[2.0] * len(ttft_ms),
        itl_ms=[1.0, 3.0],
        output_throughput=throughput,
        request_throughput=throughput / 10,
        goodput=throughput / 20,
        peak_kv_usage=throughput / 1000,
        num_preemptions=preemptions,
    )


def test_latencies_are_pooled_and_rates_are_spread_over_rounds():
    rounds = [measurement([10.0, 20.0], 100.0, 1.0), measurement([30.0, 40.0, 50.0], 200.0), measurement([60.0], 300.0)]
    row = point("stock vLLM", Load("concurrency", 4), rounds)

    assert (row["mode"], row["concurrency"], row["num_requests"]) == ("stock vLLM", 4, 6)
    # The mean of the third and fourth of six.
    assert row["ttft_p50_ms"] == 35.0
    assert row["ttft_p90_ms"] == pytest.approx(55.0)
    assert (row["tpot_p99_ms"], row["itl_p50_ms"]) == (2.0, 2.0)
    assert (row["output_throughput"], row["output_throughput_p20"]) == (200.0, pytest.approx(140.0))
    assert row["goodput_p80"] == pytest.approx(13.0)
    assert (row["peak_kv_usage"], row["num_preemptions"]) == (0.3, 0.0)


def test_every_figure_of_a_row_has_a_unit():
    row = point("stock vLLM", Load("request_rate", 2.0), [measurement([1.0], 5.0)])
    spreads = ("_p20", "_p80")
    assert {name.removesuffix(spreads[0]).removesuffix(spreads[1]) for name in row} <= {
        *UNITS, "mode", "request_rate", "num_requests",
    }  # fmt: skip


def test_a_sample_keeps_the_latencies_of_its_requests():
    row = sample("sparsity_p 1", Load("concurrency", 2), 1, measurement([1.234567, 2.0], 7.0))
    assert (row["round"], row["ttfts"], row["output_throughput"]) == (1, [1.23, 2.0], 7.0)


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 10), (2, 20), (3, 30)], [(1, 10), (2, 20), (3, 30)]),
        ([(3, 15), (1, 10), (2, 20)], [(1, 10), (2, 20)]),
        ([(1, 10), (1, 12), (2, 12)], [(1, 12)]),
        ([], []),
    ],
    ids=["all", "slower and less", "ties", "none"],
)
def test_pareto_front(points, front):
    assert pareto_front(points) == front


def test_metric_sum_adds_labels_and_ignores_longer_names():
    page = '# HELP a x\na{l="1"} 2.0\na{l="2"} 3.5\na_total 100\n'
    assert metric_sum(page, "a") == 5.5
    assert metric_sum(page, "b") == 0
