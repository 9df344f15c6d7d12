"""A made-up OpenAI server on loopback that streams."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN_S = 0.01


class Streaming(BaseHTTPRequestHandler):
    """Sends `words` one by one, `TOKEN_S` apart, and knows what it was asked."""

    protocol_version = "HTTP/1.1"
    # Every word leaves at once.
    disable_nagle_algorithm = True

    def do_GET(self):
        self._send(200, b"vllm:kv_cache_usage_perc 0.25\nvllm:num_preemptions_total 3\n")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if self.server.words is None:
            return self._send(400, b"refused")
        chunks = [{"choices": [{"delta": {"content": word}}]} for word in self.server.words]
        usage = {"prompt_tokens": 100, "completion_tokens": len(chunks)}
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in [*chunks, {"choices": [], "usage": usage}]:
            self._write(f"data: {json.dumps(chunk)}\n\n".encode())
            time.sleep(TOKEN_S)
        self._write(b"data: [DONE]\n\n")
        self._write(b"")

    def _write(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@contextmanager
def streaming(words: list[str] | None) -> Iterator[ThreadingHTTPServer]:
    """Such a server; None refuses every request. Its `url` and `bodies` are attributes."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Streaming) as server:
        server.words, server.bodies = words, []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
