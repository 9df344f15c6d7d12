"""Limits on the head of a request, its first line and headers: uvicorn waits for it without end and keeps all of it,
and all headers that follow a body, too. Limits on the time that a client may take nothing of its answer, and on the
time that it goes on sending a body when it has its answer.

vLLM's `--h11-max-*` options limit it for uvicorn's slower parser, which is used only where httptools is missing.
"""

import asyncio
import socket
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.refusals import Reason, count_refusal

MAX_HEAD_BYTES = 1 << 16
MAX_HEAD_S = 10.0
MAX_STALL_S = 30


def end_stalled(listener: socket.socket) -> None:
    """Have the kernel end the connections of clients that take nothing of their answers for `MAX_STALL_S` seconds.

    Closing one waits until the client has everything, without end.

    Args:
        listener: connections inherit its options; a Unix domain socket has no such option.
    """
    if listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * MAX_STALL_S)


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's HTTP connection, closed when a head is too long or takes too long, or a rest of a body does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = False
        self._num_head_bytes = 0
        self._num_trailer_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._end_rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self._refuse_head(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            super().on_header(name, value)
            return
        # Behind the body: nobody reads these.
        self._num_trailer_bytes += len(name) + len(value)
        if self._num_trailer_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            count_refusal(Reason.HEAD)
            self._close(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end_rest()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        # Of the answered request: the newest one may be another, which waits its turn.
        if self.cycle.response_complete and self.cycle.more_body and self._rest_timer is None:
            self._rest_timer = self.loop.call_later(MAX_HEAD_S, self.transport.close)
        super().on_response_complete()

    def _end_rest(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _begin_head(self) -> None:
        self._end_head()
        self._is_in_head, self._num_head_bytes, self._num_trailer_bytes = True, 0, 0
        self._timer = self.loop.call_later(MAX_HEAD_S, self._refuse_head, HTTPStatus.REQUEST_TIMEOUT)

    def _end_head(self) -> None:
        self._is_in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse_head(self, status: HTTPStatus) -> None:
        # A connection on which nothing came is no request.
        if self._num_head_bytes:
            count_refusal(Reason.HEAD)
        self._end_head()
        self._close(status)

    def _close(self, status: HTTPStatus) -> None:
        """Say why, unless an answer is on its way, and go."""
        if self.cycle is None or self.cycle.response_complete:
            line = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(line.encode())
        self.transport.close()
