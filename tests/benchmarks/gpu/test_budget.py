"""Points that would not end in time are left out."""

import pytest

from benchmarks.gpu.budget import FIRST_GUESS_FLOPS_PER_S, Budget


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_first_guess_then_measured_rate():
    budget = Budget(60, Clock())
    assert budget.predicted_s(FIRST_GUESS_FLOPS_PER_S * 8) == pytest.approx(1.25 * 8 + 10)
    budget.record(flops=1e14, seconds=1.0)
    budget.record(flops=3e14, seconds=1.0)
    assert budget.predicted_s(4e14) == pytest.approx(1.25 * 2 + 10)


def test_what_does_not_fit_is_refused_with_both_times():
    clock = Clock()
    budget = Budget(60, clock)
    budget.record(flops=1e14, seconds=1.0)
    assert budget.refusal(40e14) is None
    clock.now_s += 5
    assert budget.refusal(40e14) == "left out: it would take about 60 s, and 55 s are left"
    clock.now_s += 100
    assert budget.refusal(0).endswith("and 0 s are left")
    assert budget.remaining_s == -45
