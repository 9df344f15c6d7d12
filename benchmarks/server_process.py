"""A server of one's own for the length of a benchmark, on loopback."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

START_LIMIT_S = 600.0
STOP_LIMIT_S = 30.0


@contextmanager
def serving(model: str, options: Sequence[str] = ()) -> Iterator[str]:
    """Start `python -m server`, yield its address when it is healthy, and stop it.

    Args:
        model: "demo", a Hugging Face id or a folder.
        options: further server options.

    Raises:
        RuntimeError: the server ended, or was not ready within `START_LIMIT_S`; with the end of its log.
    """
    url = f"http://127.0.0.1:{_free_port()}"
    command = [
        sys.executable,
        "-m",
        "server",
        "--model",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        url.rpartition(":")[2],
    ]
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "server.log"
        with log_path.open("w") as log:
            process = subprocess.Popen([*command, *options], stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(process, url, log_path)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(process: subprocess.Popen, url: str, log_path: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"The server ended with status {process.returncode}.\n{_tail(log_path)}")
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError(f"The server was not ready after {START_LIMIT_S:.0f} s.\n{_tail(log_path)}")


def _tail(log_path: Path, num_lines: int = 30) -> str:
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-num_lines:])
