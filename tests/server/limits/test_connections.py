"""Heads of requests that are too long or too slow, sent byte by byte to a uvicorn server that runs."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from server.limits import connections
from server.limits.connections import MAX_HEAD_BYTES, LimitedHttp, end_stalled
from tests.server.harness import wait_until

HEAD_S = 0.5
STALL_S = 1
# More than the buffers between two processes hold.
LARGE_BYTES = 32 << 20


async def here(scope, receive, send) -> None:
    await PlainTextResponse("here")(scope, receive, send)


@contextmanager
def serving(app) -> Iterator[tuple[uvicorn.Server, socket.socket]]:
    """A uvicorn server and the socket that it listens on."""
    server = uvicorn.Server(uvicorn.Config(app, http=LimitedHttp, lifespan="off", log_level="critical"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        end_stalled(listener)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started, 30, "the server's start")
        yield server, listener
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def connection(monkeypatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(connections, "MAX_HEAD_S", HEAD_S)
    with (
        serving(here) as (_, listener),
        socket.create_connection(listener.getsockname(), timeout=30) as connection,
    ):
        yield connection


def ask(connection: socket.socket, headers: str = "") -> bytes:
    connection.sendall(f"GET / HTTP/1.1\r\nHost: server\r\n{headers}\r\n".encode())
    received = b""
    while not received.endswith(b"here"):
        piece = connection.recv(4096)
        if not piece:
            return received
        received += piece
    return received


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(4096):
        received += piece
    return received


def test_requests_on_one_connection_have_a_head_each(connection):
    for _ in range(3):
        assert ask(connection, f"X-Filler: {'x' * (MAX_HEAD_BYTES // 2)}\r\n").startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_between_requests_is_uvicorns(connection):
    assert ask(connection).startswith(b"HTTP/1.1 200 ")
    time.sleep(2 * HEAD_S)
    assert ask(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("begin", [b"", b"G", b"GET / HTTP/1.1\r\nHost: ser"], ids=["silent", "line", "header"])
def test_a_slow_head_is_not_waited_for(connection, begin):
    start_s = time.monotonic()
    connection.sendall(begin)
    assert until_closed(connection).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert time.monotonic() - start_s >= HEAD_S


def test_a_slow_second_head_is_not_waited_for(connection):
    assert ask(connection).startswith(b"HTTP/1.1 200 ")
    connection.sendall(b"GET / HTTP/1.1\r\nX-Filler: ")
    assert until_closed(connection).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize("piece", [b"x" * 4096, b"\r\nX-Filler: x"], ids=["one-header", "many-headers"])
def test_an_endless_head_is_cut_off(connection, piece):
    connection.sendall(b"GET / HTTP/1.1\r\nHost: server\r\nX-Filler: ")

    def send_without_end() -> None:
        for _ in range(100 * MAX_HEAD_BYTES // len(piece)):
            connection.sendall(piece)

    with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
        send_without_end()


def test_a_long_head_is_named(connection):
    connection.sendall(b"GET / HTTP/1.1\r\nX-Filler: " + b"x" * MAX_HEAD_BYTES)
    assert until_closed(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole-answer", "given-up"])
def test_a_client_that_takes_nothing_is_left(monkeypatch, is_whole):
    """Also where the application has given up, as at the end of a request's time: closing would wait without end."""
    monkeypatch.setattr(connections, "MAX_STALL_S", STALL_S)

    async def large(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = {"type": "http.response.body", "body": bytes(LARGE_BYTES)}
        await send(body if is_whole else {**body, "more_body": True})

    with serving(large) as (server, listener), socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: server\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 200 ")
        assert server.server_state.connections
        wait_until(lambda: not server.server_state.connections, 30 * STALL_S, "the end of the connection")


def test_a_client_that_reads_slowly_gets_all(monkeypatch):
    monkeypatch.setattr(connections, "MAX_STALL_S", STALL_S)
    num_bytes = 8 << 20

    async def large(scope, receive, send) -> None:
        await PlainTextResponse("x" * num_bytes)(scope, receive, send)

    with serving(large) as (_, listener), socket.create_connection(listener.getsockname(), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")
        num_received = 0
        for number in range(1 << 20):
            piece = client.recv(1 << 16)
            if not piece:
                break
            num_received += len(piece)
            if number % 16 == 0 and num_received < num_bytes // 2:
                time.sleep(STALL_S / 4)
        assert num_received > num_bytes
