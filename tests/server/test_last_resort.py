"""A process that hangs on its way out, and one that does not."""

import signal
import subprocess
import sys

import pytest

# A thread that Python would wait for without end.
HANG = "threading.Thread(target=threading.Event().wait).start()"


@pytest.mark.parametrize(("way_out", "status"), [(HANG, -signal.SIGALRM), ("sys.exit(3)", 3)], ids=["hangs", "ends"])
def test_the_kernel_ends_what_does_not_end(way_out, status):
    program = f"import sys, threading; from server.last_resort import end_within; end_within(2); {way_out}"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == status
