"""Two results side by side, by hand."""

import pytest

from benchmarks.compare import compare
from benchmarks.errors import BenchmarkError
from measurement.results import Result

UNITS = {"step_ms": "ms", "ratio": "share", "median": "ms", "p20": "ms", "p80": "ms"}


def result(*rows: dict, case: str = "decode", commit: str = "a", **arguments: int) -> Result:
    return Result(case, arguments, {"commit": commit, "torch": "2"}, UNITS, list(rows), [])


def step(mode: str, ms: float, **more: float) -> dict:
    return {"mode": mode, "context": 512, "step_ms": ms, "step_ms_p20": ms - 1, "step_ms_p80": ms + 1, **more}


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_ratio_of_medians_with_the_range_that_the_spreads_allow():
    # 4 (3 to 5) against 2 (1 to 3): from 1/5 to 3/3.
    rows = cells(compare(result(step("stock", 4.0, ratio=1.0)), result(step("stock", 2.0, ratio=0.5))))
    assert rows[2] == ["mode stock, context 512", "step_ms", "4", "2", "0.500 (0.200 to 1.000)"]
    assert rows[3] == ["mode stock, context 512", "ratio", "1", "0.5", "0.500"]


def test_rows_are_matched_by_what_they_are_about_and_others_counted():
    text = compare(result(step("stock", 4.0), step("dense", 5.0)), result(step("sparse", 1.0), step("dense", 10.0)))
    assert [row[0] for row in cells(text)[2:3]] == ["mode dense, context 512"]
    assert "In one result only: 1 rows of A, 1 rows of B." in text


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"stage": "select", "median": 2.0, "p20": 1.0, "p80": 4.0}, id="columns of the row"),
        pytest.param({"stage": "select", "ttft_ms": {"median": 2.0, "p20": 1.0, "p80": 4.0}}, id="object in the row"),
    ],
)
def test_a_median_stands_beside_its_spread_in_two_ways(row):
    assert cells(compare(result(row), result(row)))[2][-1] == "1.000 (0.250 to 4.000)"


def test_verdicts_and_errors_identify_nothing():
    failed = {"mode": "stock", "context": 512, "error": "out of memory", "passed": False}
    text = compare(result(failed, step("dense", 1.0)), result(step("stock", 1.0), step("dense", 1.0)))
    assert [row[0] for row in cells(text)[2:]] == ["mode dense, context 512"]
    assert "only" not in text


def test_differences_of_arguments_and_environment_are_listed():
    one, other = result(step("stock", 1.0), steps=16), result(step("stock", 1.0), commit="b", steps=64)
    assert cells(compare(one, other))[-2:] == [["steps", "16", "64"], ["commit", "a", "b"]]
    assert "Same arguments and same environment." in compare(one, one)


def test_zero_has_no_ratio():
    assert cells(compare(result({"name": "x", "ratio": 0.0}), result({"name": "x", "ratio": 1.0})))[2][-1] == "-"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        pytest.param(result(step("stock", 1.0), case="serve"), "are of decode and serve", id="other case"),
        pytest.param(result(step("sparse", 1.0)), "no row in common", id="other rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(other, message):
    with pytest.raises(BenchmarkError, match=message):
        compare(result(step("stock", 1.0)), other)
