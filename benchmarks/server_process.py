"""A server of one's own for the length of a benchmark, on loopback."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.errors import BenchmarkError

OURS = "server"
STOCK = "vllm.entrypoints.openai.api_server"
# vLLM as it comes: it loads no plugin.
STOCK_ENVIRONMENT = {"VLLM_PLUGINS": ""}
# How the server begins the sentence that says why it does not start.
REFUSAL = "Winnow cannot start:"
START_LIMIT_S = 600.0
STOP_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that was healthy once.

    Attributes:
        url: its address, without a path.
        pid: of its HTTP process, the parent of the engine's.
    """

    url: str
    pid: int


@contextmanager
def serving(
    model: str, options: Sequence[str] = (), module: str = OURS, environment: Mapping[str, str | None] | None = None
) -> Iterator[str]:
    """`running_server` for those who need no more than its address."""
    with running_server(model, options, module, environment) as server:
        yield server.url


@contextmanager
def running_server(
    model: str, options: Sequence[str] = (), module: str = OURS, environment: Mapping[str, str | None] | None = None
) -> Iterator[RunningServer]:
    """Start a server, yield it when it is healthy, and stop it.

    Args:
        model: "demo" for our server, a Hugging Face id or a folder.
        options: further server options.
        module: `OURS`, or `STOCK` with `STOCK_ENVIRONMENT` for vLLM without the plugin.
        environment: variables beside those of this process; None takes one away.

    Raises:
        BenchmarkError: the server ended, or was not ready within `START_LIMIT_S`, with its reason; or what the block
            raised. With the place of the server's log.
    """
    url = f"http://127.0.0.1:{_free_port()}"
    command = [
        sys.executable,
        "-m",
        module,
        "--model",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        url.rpartition(":")[2],
    ]
    variables = os.environ | dict(environment or {})
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "server.log"
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [*command, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in variables.items() if value is not None},
            )
        try:
            if (failure := _wait(process, url)) is not None:
                raise BenchmarkError(f"The server of model {model} {failure}: {_reason(log_path)}")
            yield RunningServer(url, process.pid)
        except BenchmarkError as error:
            kept_log = Path(tempfile.gettempdir()) / f"winnow-benchmark-server-{process.pid}.log"
            shutil.copy(log_path, kept_log)
            error.args = (f"{error} Its log: {kept_log}",)
            raise
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


def _wait(process: subprocess.Popen, url: str) -> str | None:
    """Wait until the server is healthy; returns what happened instead, None when it is."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"ended with status {process.returncode}"
        try:
            if httpx.get(f"{url}/health").is_success:
                return None
        except httpx.TransportError:
            time.sleep(0.5)
    return f"was not ready after {START_LIMIT_S:.0f} s"


def _reason(log_path: Path) -> str:
    """The line of a log that says most: the server's own refusal, else the last error, else the last line."""
    lines = [line.strip() for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
    for is_telling in (lambda line: line.startswith(REFUSAL), lambda line: "Error: " in line):
        if found := [line for line in lines if is_telling(line)]:
            return found[-1].removeprefix(REFUSAL)
    return lines[-1] if lines else "it said nothing."
