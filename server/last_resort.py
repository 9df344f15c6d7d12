"""The end of a process that does not end: on its way out Python waits for threads and sockets, the kernel does not."""

import signal

# More than a slow machine needs to leave in order.
LIMIT_S = 60


def end_within(limit_s: int = LIMIT_S) -> None:
    """Have the kernel end this process if it still runs then. To be called in the main thread.

    Args:
        limit_s: whole seconds.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limit_s)
