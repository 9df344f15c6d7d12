"""The soak case. All of its 10,000 requests, in less than an hour: `pytest -m slow tests/benchmarks/test_soak.py`."""

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.cases import soak
from benchmarks.errors import BenchmarkError
from benchmarks.soak.driver import Leg
from benchmarks.soak.watch import Footprint
from measurement.results import Result


def arguments(*argv: str) -> Namespace:
    parser = ArgumentParser()
    soak.add_arguments(parser)
    return parser.parse_args(argv)


def leg(server_mib: float = 300.0, preemptions: int = 3) -> Leg:
    return Leg(
        outcomes=Counter(
            {"answered": 6, "refused with 400": 2, "refused with 401": 1, "left": 1, "equal": 3, "tie": 1}
        ),
        answered_s=[1.0, 2.0, 3.0],
        refused_s=[0.1],
        slowdowns=[2.0, 4.0],
        peak_kv_usage=0.9,
        seconds=5.0,
        footprint=Footprint(server_mib, 500.0, 40, 60),
        counted={"preemptions": preemptions, "dropped_feedback": 0},
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--requests", "0"], "--requests is 0, but must be above 0"),
        (["--max-growth-mib", "-1"], "--max-growth-mib is -1.0, but must be above 0"),
    ],
)
def test_bad_arguments_are_refused_before_a_server_starts(argv, message):
    with pytest.raises(BenchmarkError, match=message):
        soak.run(arguments(*argv))


def test_a_row_by_hand():
    row = soak.summarise([leg(), leg()], num_per_leg=10)
    assert row["outcomes"] == {
        "answered": 12, "refused with 400": 4, "refused with 401": 2, "left": 2, "equal": 6, "tie": 2
    }  # fmt: skip
    assert (row["preemptions"], row["peak_kv_usage"]) == (6, 0.9)
    assert (row["answered_p50_s"], row["slowdown_p50"]) == (2.0, 3.0)
    assert row["slowdown_p99"] == pytest.approx(4.0)
    assert row["server_growth"] is None


def test_a_soak_without_preemptions_proves_nothing():
    with pytest.raises(BenchmarkError, match=r"No request was preempted.*lower --kv-cache-mib"):
        soak.check_row(soak.summarise([leg(preemptions=0)], 10), 2.0)


def row_with_growth(growth: Callable[[int], float]) -> dict[str, Any]:
    return soak.summarise([leg(server_mib=300.0 + growth(index)) for index in range(12)], num_per_leg=100)


def test_memory_that_grows_stops_the_case():
    row = row_with_growth(lambda index: index)
    soak.check_row(row, 10.1)
    with pytest.raises(BenchmarkError, match=r"server grew by \+10.0, \+10.0 to \+10.0 MiB in 1,000 requests, but may"):
        soak.check_row(row, 9.9)


def test_memory_that_sways_says_nothing():
    with pytest.raises(BenchmarkError, match=r"must be known to be below 20. Send more requests \(--requests\)"):
        soak.check_row(row_with_growth(lambda index: 30 * (-1) ** index), 2.0)


def test_table_and_figure():
    legs = [leg(), leg()]
    rows = [{"selection": "zipvl", **soak.summarise(legs, 10)}]
    samples = [{"selection": "zipvl", "leg": index, **soak.sample(each)} for index, each in enumerate(legs)]
    result = Result("soak", vars(arguments("--selection", "zipvl")), {}, soak.UNITS, rows, samples)
    lines = soak.table(result).splitlines()
    assert lines[2] == (
        "| zipvl | 12 | 6 | 2 | 6 | 6 | 2 | 3.0, 4.0 | 300 (too short to say) | 500 (too short to say) |"
    )
    pytest.importorskip("matplotlib")
    (figure,) = soak.figures(result).values()
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["server, zipvl"].get_xdata()) == [10, 20]
    assert list(lines["engine, zipvl"].get_ydata()) == [500, 500]


def check(result: Result, num_requests: int) -> None:
    """What a run that came to its end says."""
    for row in result.summary:
        outcomes = Counter(row["outcomes"])
        assert sum(outcomes.values()) - outcomes["equal"] - outcomes["tie"] == num_requests // len(result.summary)
        assert min(outcomes["answered"], outcomes["refused with 400"], outcomes["left"], outcomes["equal"]) > 0
        assert outcomes["tie"] <= outcomes["equal"] / 100
        assert row["preemptions"] > 0
        assert 0.5 < row["peak_kv_usage"] <= 1
        assert row["answered_p50_s"] <= row["answered_p99_s"]


def test_a_hundred_requests():
    options = ("--requests", "120", "--leg", "60", "--prompts", "14", "--selection", "zipvl")
    check(soak.run(arguments(*options)), 120)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_requests():
    result = soak.run(arguments())
    check(result, 10_000)
    for row in result.summary:
        assert {"refused with 401", "refused with 429"} <= set(row["outcomes"])
        assert row["server_growth"] is not None
        assert row["engine_growth"] is not None
