"""Statistics by hand."""

import pytest

from benchmarks.measure import spread


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param([7.0], (7.0, 7.0, 7.0), id="one sample"),
        pytest.param([5.0, 1.0, 2.0, 3.0, 4.0, 0.0], (2.5, 1.0, 4.0), id="six samples"),
    ],
)
def test_spread_by_hand(samples, expected):
    assert spread(samples) == pytest.approx(expected)
