"""A web server on loopback that answers as hostile hosts do."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.server.media import corpus


@dataclass
class WebServer:
    """A running one.

    Attributes:
        port: of 127.0.0.1.
        requests: path and Host header of each request, in order.
    """

    port: int
    requests: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def do_GET(self) -> None:
        self.web.requests.append((self.path, self.headers["Host"]))
        kind, _, argument = self.path.lstrip("/").partition("/")
        getattr(self, f"_{kind}")(argument)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _picture(self, _: str) -> None:
        self._answer(200, corpus.saved(corpus.gradient(), "PNG"), Content_Type="image/png")

    def _video(self, _: str) -> None:
        self._answer(200, corpus.video(), Content_Type="video/x-msvideo")

    def _status(self, code: str) -> None:
        self._answer(int(code), b"no")

    def _to(self, location: str) -> None:
        self._answer(302, b"", Location=location)

    def _loop(self, number: str) -> None:
        self._answer(302, b"", Location=f"/loop/{int(number) + 1}")

    def _zipped(self, _: str) -> None:
        self._answer(200, b"\x1f\x8b", Content_Encoding="gzip")

    def _claims(self, num_bytes: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", num_bytes)
        self.end_headers()

    def _endless(self, _: str) -> None:
        """Chunks without end and without a length."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        except OSError:
            self.close_connection = True

    def _drip(self, _: str) -> None:
        """One byte in a while, so that no single read takes long."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[WebServer]:
    yield from running(WebServer)


def running(make: type[WebServer], address: str = "127.0.0.1", port: int = 0, ssl_context=None) -> Iterator[WebServer]:
    """A web server on an address of this machine, until the generator is closed."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer((address, port), handler) as http:
        http.daemon_threads = True
        if ssl_context is not None:
            http.socket = ssl_context.wrap_socket(http.socket, server_side=True)
        handler.web = make(http.server_address[1])
        thread = Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield handler.web
        finally:
            http.shutdown()
            thread.join()
