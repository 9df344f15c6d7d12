"""The slope of memory over a soak."""

import pytest

from benchmarks.soak.growth import MIN_LOOKS, mib_per_1000


def test_a_leak_of_a_kilobyte_a_request_shows_through_steps_and_noise():
    levels = [300 + (100 if leg > 5 else 20 * leg) + 0.5 * leg + (-1) ** leg * 0.4 for leg in range(24)]
    assert mib_per_1000(levels, num_per_leg=500) == pytest.approx(1.0, abs=0.1)


def test_a_level_with_one_step_of_the_allocator_does_not_grow():
    levels = [200.0 + 10 * min(leg, 4) for leg in range(12)] + [256.0] * 12
    assert mib_per_1000(levels, num_per_leg=500) <= 1.0
    assert mib_per_1000([300.0] * 20, num_per_leg=500) == 0


def test_the_warm_up_does_not_count():
    assert mib_per_1000([100.0 * leg for leg in range(4)] + [400.0] * 8, num_per_leg=500) == 0


def test_too_few_looks_say_nothing():
    assert mib_per_1000([100.0] * MIN_LOOKS, num_per_leg=500) is None
