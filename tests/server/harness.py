"""What the HTTP tests share: a server process, waiting, pictures, messages."""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image, ImageDraw

START_TIMEOUT_S = 240
STOP_TIMEOUT_S = 60

# The default differs from 1 and the bound from 0, so that both are seen to be used.
DEFAULT_SPARSITY_P = 0.9
MIN_SPARSITY_P = 0.2
NUM_LAYERS = 4


@dataclass(frozen=True)
class Server:
    """A running `python -m server`."""

    url: str
    log: Path
    process: subprocess.Popen

    def post(self, path: str, body: str) -> httpx.Response:
        """Send a body exactly as written, NaN included."""
        return httpx.post(
            f"{self.url}/v1/{path}", content=body, headers={"Content-Type": "application/json"}, timeout=60
        )

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels; 0 when there are none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        samples = [line for line in lines if re.match(rf"{re.escape(name)}[{{ ]", line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples if all(label in line for label in wanted))

    def is_idle(self) -> bool:
        """No request anywhere, no block in use."""
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
        return all(self.metric(name) == 0 for name in names)


def environment_of_a_program() -> dict[str, str]:
    """This process's, without what other tests set for engines inside of it: processes of its own, and a log."""
    ours_alone = ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_LEVEL")
    return {name: value for name, value in os.environ.items() if name not in ours_alone}


@contextmanager
def running_server(log: Path, **more_options: object) -> Iterator[Server]:
    """Start `python -m server --model demo`, wait until it says that it is ready, and stop it at the end.

    Args:
        log: where its output goes.
        more_options: such as `shutdown_timeout=30`; a list is several words.
    """
    port = free_port()
    options = {
        "--model": "demo",
        "--port": port,
        "--sparsity-p": DEFAULT_SPARSITY_P,
        "--min-sparsity-p": MIN_SPARSITY_P,
        # 65,536 tokens; several servers run at a time.
        "--kv-cache-memory-bytes": 128 << 20,
        **{f"--{name.replace('_', '-')}": value for name, value in more_options.items()},
    }
    command = [sys.executable, "-m", "server"]
    for flag, value in options.items():
        command += [flag, *(str(word) for word in (value if isinstance(value, list) else [value]))]
    environment = {**environment_of_a_program(), "VLLM_ENABLE_RESPONSES_API_STORE": "1"}
    with log.open("w") as log_file:
        # A group, which `stop` can kill, but no session of its own: Linux groups sessions for its scheduler, and the
        # threads that spin in a busy engine then keep this process waiting for seconds (seen with 6.18).
        process = subprocess.Popen(command, stdout=log_file, stderr=subprocess.STDOUT, process_group=0, env=environment)
    try:
        wait_until(
            lambda: "Ask it something" in log.read_text() or process.poll() is not None,
            START_TIMEOUT_S,
            "the server's start",
        )
        assert process.poll() is None, log.read_text()[-4000:]
        yield Server(f"http://127.0.0.1:{port}", log, process)
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    """Stop it as a container would; kill its process group when that is not enough."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.1)


def picture(color: str, size: int = 224) -> Image.Image:
    """A square on white."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).rectangle((size // 8, size // 8, size // 2, size // 2), fill=color)
    return image


def encoded(image: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


def video_url_of(frames: list[Image.Image]) -> str:
    """A video as vLLM takes it without a decoder: JPEG frames one after the other."""
    return "data:video/jpeg;base64," + ",".join(base64.b64encode(encoded(frame, "JPEG")).decode() for frame in frames)


def question(*media: dict, text: str = "what color is the square ?") -> list[dict]:
    """Chat messages that ask about these media."""
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]
