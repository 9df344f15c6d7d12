"""Heads of requests that are too long or too slow, sent byte by byte to a uvicorn server that runs."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from server.limits import connections
from server.limits.connections import MAX_HEAD_BYTES, LimitedHttp
from tests.server.harness import wait_until

HEAD_S = 0.5


@pytest.fixture
def connection(monkeypatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(connections, "MAX_HEAD_S", HEAD_S)

    async def app(scope, receive, send) -> None:
        await PlainTextResponse("here")(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, http=LimitedHttp, lifespan="off", log_level="error"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started, 30, "the server's start")
        with socket.create_connection(listener.getsockname(), timeout=30) as connection:
            yield connection
        server.should_exit = True
        thread.join(30)


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
