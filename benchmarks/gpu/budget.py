"""The time that one engine process may take: points that would not end in it are left out, not cut off."""

import time
from collections.abc import Callable

# Assumed until the engine has shown its own rate.
FIRST_GUESS_FLOPS_PER_S = 4e14
_SAFETY = 1.25
_FIXED_S = 10.0


class Budget:
    """What is left of a limit, and whether a point that prefills so much still fits.

    Args:
        limit_s: from now on.
        clock: seconds, for tests.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end_s = clock() + limit_s
        self._flops, self._seconds = 0.0, 0.0

    @property
    def remaining_s(self) -> float:
        return self._end_s - self._clock()

    def record(self, flops: float, seconds: float) -> None:
        """Learn from a prefill that took so long."""
        self._flops += flops
        self._seconds += seconds

    def predicted_s(self, flops: float) -> float:
        """Seconds that a point which prefills `flops` will take, on the safe side."""
        rate = self._flops / self._seconds if self._flops else FIRST_GUESS_FLOPS_PER_S
        return _SAFETY * flops / rate + _FIXED_S

    def refusal(self, flops: float) -> str | None:
        """Why a point must be left out; None when it fits."""
        predicted_s = self.predicted_s(flops)
        if predicted_s <= self.remaining_s:
            return None
        return f"left out: it would take about {predicted_s:.0f} s, and {max(0.0, self.remaining_s):.0f} s are left"
