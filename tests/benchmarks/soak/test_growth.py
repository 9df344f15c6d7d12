"""The slope of memory over a soak."""

import pytest

from benchmarks.soak.growth import MIN_LOOKS, Growth, growth_of


def test_a_leak_of_a_kilobyte_a_request_shows_through_steps_and_noise():
    levels = [300 + (100 if leg > 5 else 20 * leg) + 0.5 * leg + (-1) ** leg * 0.4 for leg in range(24)]
    growth = growth_of(levels, num_per_leg=500)
    assert growth.slope == pytest.approx(1.0, abs=0.1)
    assert 0.8 < growth.low <= growth.slope <= growth.high < 1.2


def test_a_level_with_one_step_of_the_allocator_does_not_grow():
    levels = [200.0 + 10 * min(leg, 4) for leg in range(12)] + [256.0] * 12
    assert growth_of(levels, num_per_leg=500).slope <= 1.0
    assert growth_of([300.0] * 20, num_per_leg=500) == Growth(0, 0, 0)


def test_the_warm_up_does_not_count():
    assert growth_of([100.0 * leg for leg in range(4)] + [400.0] * 8, num_per_leg=500) == Growth(0, 0, 0)


def test_too_few_looks_say_nothing():
    assert growth_of([100.0] * MIN_LOOKS, num_per_leg=500) is None


def test_the_interval_by_hand():
    """Nine looks, six of them warm: 15 slopes, of which Sen's interval at 95 % leaves out one at either end.

    1.96 * sqrt(6 * 5 * 17 / 18) is 10.4; (15 - 10.4) / 2 rounds to 2 and (15 + 10.4) / 2 to 13.
    """
    growth = growth_of([0, 0, 0, 10, 11, 9, 14, 13, 20], num_per_leg=1000)
    slopes = sorted([1, -0.5, 4 / 3, 0.75, 2, -2, 1.5, 2 / 3, 2.25, 5, 2, 11 / 3, -1, 3, 7])
    assert growth == Growth(pytest.approx(slopes[7]), pytest.approx(slopes[1]), pytest.approx(slopes[13]))
