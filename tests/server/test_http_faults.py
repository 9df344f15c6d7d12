"""What a dead process of the engine does: open requests end, readiness goes, the process exits, nothing is left."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from server.errors import EXIT_ENGINE_DIED, EXIT_INTERRUPTED
from tests.server.harness import (
    START_TIMEOUT_S,
    Server,
    environment_of_a_program,
    free_port,
    running_server,
    wait_until,
)

UNREADY_WITHIN_S = 5
EXIT_WITHIN_S = 20
STEP_TIMEOUT_S = 20
SECRET = "my card ends with 4711"
MAX_TOKENS = 3800
# So many of them take longer than this process may have to wait for its turn.
NUM_SEQUENCES = 16


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """One to break."""
    monkeypatch.setenv("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", str(STEP_TIMEOUT_S))
    with running_server(tmp_path / "log.txt", shutdown_timeout=2) as server:
        yield server


def process_of(server: Server, title: str) -> psutil.Process:
    """vLLM's own process with this title."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return next(child for child in children if child.cmdline()[:1] == [title])


def ask(server: Server, **fields) -> httpx.Response:
    """A request that would run until the context is full."""
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": SECRET}],
        "max_tokens": MAX_TOKENS,
        "ignore_eos": True,
        "n": NUM_SEQUENCES,
        "temperature": 1,
        **fields,
    }
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)


def half_a_request(server: Server) -> socket.socket:
    """A client that never sends the body that it announced."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    return client


def is_ready(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/readyz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def is_running(group: int) -> bool:
    """Whether any process of this group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("title", "fault", "unready_within_s"),
    [
        ("VLLM::EngineCore", signal.SIGKILL, UNREADY_WITHIN_S),
        ("VLLM::Worker", signal.SIGKILL, UNREADY_WITHIN_S),
        # It hangs in a step; vLLM's timeout makes a death of that.
        ("VLLM::Worker", signal.SIGSTOP, 2 * STEP_TIMEOUT_S),
    ],
    ids=["engine-killed", "worker-killed", "worker-hangs"],
)
def test_a_dead_engine_ends_the_server(server, title, fault, unready_within_s):
    assert is_ready(server)
    with ThreadPoolExecutor() as pool, half_a_request(server):
        plain = pool.submit(ask, server)
        streamed = pool.submit(ask, server, stream=True)
        num_running = 2 * NUM_SEQUENCES
        wait_until(lambda: server.metric("vllm:num_requests_running") == num_running, 60, "the start of both requests")
        process_of(server, title).send_signal(fault)
        wait_until(lambda: not is_ready(server), unready_within_s, "/readyz's change")

        assert plain.result().status_code == 500
        assert plain.result().json()["error"]["type"] == "InternalServerError"
        *_, error, done = [line for line in streamed.result().text.splitlines() if line]
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == 500
        assert done == "data: [DONE]"
        assert server.process.wait(EXIT_WITHIN_S) == EXIT_ENGINE_DIED
    wait_until(lambda: not is_running(server.process.pid), EXIT_WITHIN_S, "the end of vLLM's processes")
    log = server.log.read_text()
    assert "The engine died." in log
    assert SECRET not in log
    assert "prompt_token_ids=[" not in log


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_stop_signal_ends_a_start(tmp_path, stop_signal):
    log = tmp_path / "log.txt"
    command = [sys.executable, "-m", "server", "--model", "demo", "--port", str(free_port())]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, process_group=0, env=environment_of_a_program()
        )
    try:
        # It waits for its engine as soon as there is one.
        wait_until(lambda: "warmup completed" in log.read_text(), START_TIMEOUT_S, "the engine's start")
        process.send_signal(stop_signal)
        assert process.wait(EXIT_WITHIN_S) == EXIT_INTERRUPTED
        wait_until(lambda: not is_running(process.pid), EXIT_WITHIN_S, "the end of vLLM's processes")
    finally:
        process.kill()
    assert "Traceback" not in log.read_text()


def test_a_stop_signal_does_not_wait_for_half_a_request(server):
    with half_a_request(server):
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(EXIT_WITHIN_S) == 0
