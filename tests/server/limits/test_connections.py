"""Heads of requests that are too long or too slow, sent byte by byte to a uvicorn server that runs."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.requests import Request
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
def address(monkeypatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(connections, "MAX_HEAD_S", HEAD_S)
    with serving(here) as (_, listener):
        yield listener.getsockname()


@pytest.fixture
def connection(address) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=30) as connection:
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
def test_a_slow_head_is_not_waited_for(address, begin):
    # The server's time begins when the connection is there.
    start_s = time.monotonic()
    with socket.create_connection(address, timeout=30) as connection:
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


CHUNKED = b"POST / HTTP/1.1\r\nHost: server\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


def send_until_closed(connection: socket.socket, piece: bytes, pause_s: float = 0.0) -> None:
    for _ in range(1000):
        connection.sendall(piece)
        time.sleep(pause_s)


async def echo(scope, receive, send) -> None:
    body = await Request(scope, receive).body()
    names = ",".join(name.decode() for name, _ in scope["headers"])
    await PlainTextResponse(f"{names} {body.decode()} here")(scope, receive, send)


@pytest.mark.parametrize("app", [here, echo], ids=["answered", "unanswered"])
def test_endless_headers_behind_a_body_are_cut_off(app):
    """uvicorn would keep all of them, whether or not the request has its answer, a refusal for one."""
    with serving(app) as (_, listener), socket.create_connection(listener.getsockname(), timeout=30) as connection:
        connection.sendall(CHUNKED + b"0\r\n")
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            send_until_closed(connection, b"x-filler: x\r\n" * (MAX_HEAD_BYTES // 16))


def test_headers_behind_a_body_are_nobodys():
    with serving(echo) as (_, listener), socket.create_connection(listener.getsockname(), timeout=30) as connection:
        connection.sendall(CHUNKED + b"0\r\nAuthorization: Bearer x\r\n\r\n")
        received = connection.recv(4096)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert received.endswith(b"host,transfer-encoding x here")


def test_a_body_is_not_read_for_long_when_it_is_answered(connection):
    start_s = time.monotonic()
    connection.sendall(CHUNKED)
    with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
        send_until_closed(connection, b"1\r\nx\r\n", pause_s=HEAD_S / 10)
    assert time.monotonic() - start_s >= HEAD_S


def test_the_rest_of_an_answered_body_may_come_and_then_the_next_request(connection):
    connection.sendall(CHUNKED)
    time.sleep(HEAD_S / 5)
    connection.sendall(b"0\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    time.sleep(2 * HEAD_S)
    assert ask(connection).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_waits_for_its_turn_has_its_time(monkeypatch):
    """Its request came behind another one, on the same connection, and before that one's answer."""
    monkeypatch.setattr(connections, "MAX_HEAD_S", HEAD_S)
    with serving(echo) as (_, listener), socket.create_connection(listener.getsockname(), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: server\r\nContent-Length: 1\r\n\r\na" + CHUNKED)
        time.sleep(3 * HEAD_S)
        connection.sendall(b"0\r\n\r\n")
        received = b""
        while not received.endswith(b" x here"):
            piece = connection.recv(4096)
            assert piece, received
            received += piece


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4",
        b"Content-Length: 4\r\nContent-Length: 5",
        b"Content-Length: +4",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: chunked\r\nX-Folded: a\r\n b",
        b"X-Nul: \0",
    ],
    ids=str,
)
def test_a_body_whose_end_is_in_doubt_is_refused(connection, headers):
    """A server in front might read it otherwise, and let the rest through as another request (httptools' own check)."""
    hidden = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: server\r\n\r\n"
    connection.sendall(b"POST / HTTP/1.1\r\nHost: server\r\n" + headers + b"\r\n\r\n" + hidden)
    received = until_closed(connection)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
