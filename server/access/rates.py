"""How much may be asked for at a time: requests per minute and at once, of each caller and of all together."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from server.refusals import Reason

WINDOW_S = 60.0
# When a slot comes free nobody knows; most answers take longer than this.
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Excess:
    """Why a request may not run now.

    Attributes:
        message: what there is, the rule and the remedy.
        retry_after_s: whole seconds after which it may be sent again.
        reason: to count it under.
    """

    message: str
    retry_after_s: int
    reason: Reason


@dataclass(slots=True)
class Allowance:
    """What one caller may use, and what it uses now; one process serves all requests, so the counts are exact.

    Attributes:
        requests_per_minute: in any 60 seconds; 0 for any number.
        concurrent_requests: that have no whole answer yet; 0 for any number.
        clock: seconds that only grow.
    """

    requests_per_minute: int
    concurrent_requests: int
    clock: Callable[[], float] = time.monotonic
    _num_running: int = 0
    _starts_s: deque[float] = field(default_factory=deque)

    def excess(self) -> Excess | None:
        """What stands against one request more; None when nothing does."""
        if self.concurrent_requests and self._num_running >= self.concurrent_requests:
            return Excess(
                f"{self._num_running} requests of this key are running, but it may have {self.concurrent_requests} at "
                "a time. Send it again when one has ended.",
                RETRY_AFTER_S,
                Reason.CONCURRENCY,
            )
        return self._excess_of_rate()

    def _excess_of_rate(self) -> Excess | None:
        if not self.requests_per_minute:
            return None
        now_s = self.clock()
        while self._starts_s and now_s - self._starts_s[0] >= WINDOW_S:
            self._starts_s.popleft()
        if len(self._starts_s) < self.requests_per_minute:
            return None
        retry_after_s = math.ceil(self._starts_s[0] + WINDOW_S - now_s)
        return Excess(
            f"{len(self._starts_s)} requests of this key began in the last minute, but it may begin "
            f"{self.requests_per_minute}. Send it again in {retry_after_s} s.",
            max(retry_after_s, RETRY_AFTER_S),
            Reason.RATE,
        )

    def begin(self) -> None:
        """Count a request that runs now."""
        self._num_running += 1
        if self.requests_per_minute:
            self._starts_s.append(self.clock())

    def end(self) -> None:
        """The request has its whole answer, or its client left."""
        self._num_running -= 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """A request runs within the block."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def hold(self) -> Callable[[object], None]:
        """Keep one slot more, for work that goes on after the answer; what is returned gives it back."""
        self._num_running += 1
        return lambda _: self.end()
