"""What a container's stop signal does to requests in flight."""

import json
import signal
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.server.harness import STOP_TIMEOUT_S, Server, running_server

NUM_CLIENTS = 4
NUM_TOKENS = 400
DRAIN_S = 120
# The demo model's context holds more tokens than it can write in this time.
SHORT_DRAIN_S = 1
MANY_TOKENS = 3900


class StreamingClient(threading.Thread):
    """Reads one stream to its end."""

    def __init__(self, server: Server, num_tokens: int) -> None:
        super().__init__(daemon=True)
        self._url = f"{server.url}/v1/chat/completions"
        self._body = {
            "model": "demo",
            "messages": [{"role": "user", "content": "Who are you?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
            "max_tokens": num_tokens,
        }
        self.has_begun = threading.Event()
        self.chunks: list[dict] = []
        self.is_complete = False

    def run(self) -> None:
        for event in self._events():
            if event == "[DONE]":
                self.is_complete = True
                return
            self.chunks.append(json.loads(event))
            self.has_begun.set()

    def _events(self) -> Iterator[str]:
        with httpx.stream("POST", self._url, json=self._body, timeout=DRAIN_S) as response:
            yield from (line.removeprefix("data: ") for line in response.iter_lines() if line)

    @property
    def finish_reasons(self) -> list[str]:
        choices = [choice for chunk in self.chunks for choice in chunk["choices"]]
        return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


class AskingClient(threading.Thread):
    """Asks about a picture again and again over one connection, until the server takes no more."""

    def __init__(self, server: Server, messages: list[dict]) -> None:
        super().__init__(daemon=True)
        self._url = f"{server.url}/v1/chat/completions"
        self._body = {"model": "demo", "messages": messages, "max_tokens": 4}
        self.statuses: list[int] = []

    def run(self) -> None:
        with httpx.Client(timeout=DRAIN_S) as client:
            while True:
                try:
                    self.statuses.append(client.post(self._url, json=self._body).status_code)
                except httpx.TransportError:
                    return


@pytest.fixture
def patient_server(tmp_path) -> Iterator[Server]:
    with running_server(tmp_path / "log.txt", shutdown_timeout=DRAIN_S) as server:
        yield server


@pytest.fixture
def hasty_server(tmp_path) -> Iterator[Server]:
    with running_server(tmp_path / "log.txt", shutdown_timeout=SHORT_DRAIN_S) as server:
        yield server


def begin(*clients: StreamingClient) -> None:
    for client in clients:
        client.start()
    for client in clients:
        assert client.has_begun.wait(DRAIN_S)


def test_requests_in_flight_finish_and_no_new_ones_begin(patient_server, about_picture):
    stream = StreamingClient(patient_server, NUM_TOKENS)
    clients = [AskingClient(patient_server, about_picture) for _ in range(NUM_CLIENTS)]
    begin(stream)
    for client in clients:
        client.start()
    # Now most of them are somewhere between the first byte and the engine.
    while not all(client.statuses for client in clients):
        time.sleep(0.01)
    patient_server.process.send_signal(signal.SIGTERM)

    for client in clients:
        client.join(DRAIN_S)
        assert not client.is_alive()
        assert set(client.statuses) == {200}
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{patient_server.url}/health")
    stream.join(DRAIN_S)
    assert stream.is_complete
    assert stream.finish_reasons == ["length"]
    assert stream.chunks[-1]["usage"]["completion_tokens"] == NUM_TOKENS
    assert patient_server.process.wait(STOP_TIMEOUT_S) == 0


def test_what_takes_longer_than_the_timeout_is_cut_off(hasty_server):
    stream = StreamingClient(hasty_server, MANY_TOKENS)
    begin(stream)
    hasty_server.process.send_signal(signal.SIGTERM)
    assert hasty_server.process.wait(STOP_TIMEOUT_S) == 0
    stream.join(DRAIN_S)
    assert stream.is_complete
    assert stream.finish_reasons == ["abort"]
    assert "1 request(s) in flight are cut off." in hasty_server.log.read_text()
