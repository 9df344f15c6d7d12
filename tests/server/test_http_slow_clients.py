"""Clients that send or read slowly, many at once: others are answered meanwhile, and nothing is left of them."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psutil
import pytest

from server.limits.deadlines import GRACE_S
from tests.server.guarded import (
    KEYS,
    MAX_NUM_SEQS,
    MAX_OUTPUT_TOKENS,
    MAX_QUEUED,
    MAX_REQUEST_S,
    MAX_UPLOAD_S,
    QUESTION,
    ask,
)
from tests.server.harness import Server, wait_until

NUM_CLIENTS = 2 * (MAX_NUM_SEQS + MAX_QUEUED)
NUM_DRIPPING = 50
DRIP_INTERVAL_S = 0.5
# Each token with 20 others: more than the buffers between two processes hold.
LONG_STREAM = {
    **QUESTION, "max_tokens": MAX_OUTPUT_TOKENS, "ignore_eos": True, "stream": True, "logprobs": True,
    "top_logprobs": 20,
}  # fmt: skip
SLACK_S = 20


def connect(server: Server) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect((urlsplit(server.url).hostname, urlsplit(server.url).port))
    return connection


def head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: server\r\nAuthorization: Bearer {KEYS['plain']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def num_connections(server: Server) -> int:
    connections = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(connection.status != psutil.CONN_LISTEN and bool(connection.raddr) for connection in connections)


def first_line(connection: socket.socket) -> bytes:
    return connection.recv(64).partition(b"\r\n")[0]


@pytest.fixture
def connections(guarded) -> Iterator[list[socket.socket]]:
    """Twice as many connections as the server takes requests."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(guarded)) for _ in range(NUM_CLIENTS)]


def test_half_sent_bodies_keep_nobody_out(guarded, connections):
    for connection in connections:
        connection.sendall(head("/v1/chat/completions", 1000) + b'{"model":')
    assert ask(guarded, "/v1/chat/completions").status_code == 200
    for connection in connections:
        assert first_line(connection) == b"HTTP/1.1 408 Request Timeout"
    wait_until(guarded.is_idle, MAX_UPLOAD_S + SLACK_S, "the end of all requests")


@contextmanager
def dripping(connections: list[socket.socket]) -> Iterator[None]:
    """Each of them sends a byte of an endless header now and then, until it is closed."""
    is_over = threading.Event()

    def drip() -> None:
        while not is_over.wait(DRIP_INTERVAL_S):
            for connection in connections:
                try:
                    connection.sendall(b"x")
                except OSError:
                    continue

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_dripping_heads_keep_nobody_out(guarded):
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(guarded)) for _ in range(NUM_DRIPPING)]
        for connection in connections:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nX-Filler: ")
        with dripping(connections):
            assert ask(guarded, "/v1/chat/completions").status_code == 200
            for connection in connections:
                assert first_line(connection) == b"HTTP/1.1 408 Request Timeout"
        wait_until(lambda: num_connections(guarded) == 0, SLACK_S, "the end of all connections")


def test_clients_that_do_not_read_are_left(guarded):
    body = json.dumps(LONG_STREAM).encode()
    with ExitStack() as stack:
        for _ in range(MAX_NUM_SEQS - 1):
            connection = stack.enter_context(connect(guarded))
            connection.sendall(head("/v1/chat/completions", len(body)) + body)
            assert first_line(connection) == b"HTTP/1.1 200 OK"
        assert ask(guarded, "/v1/chat/completions").status_code == 200
        # They are still there, and have nothing any more: no blocks, no place, no connection.
        wait_until(guarded.is_idle, MAX_REQUEST_S + GRACE_S + SLACK_S, "the end of all requests")
        wait_until(lambda: num_connections(guarded) == 0, 2 * GRACE_S + SLACK_S, "the end of all connections")
    assert ask(guarded, "/v1/chat/completions").status_code == 200
