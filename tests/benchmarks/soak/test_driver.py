"""The course of a soak, against a made-up server that loses things on purpose."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.server_process import RunningServer
from benchmarks.soak import driver, plan, watch
from benchmarks.soak.driver import Wanted, soak

WANTED = Wanted(num_requests=20, num_per_leg=8, num_prompts=3, concurrency=4, seed=5)
# Answers that the server gives before the first leg: one to warm up, and one for each prompt.
NUM_BEFORE = 4
LOGPROB = {"token": "token_id:5", "logprob": -0.1, "top_logprobs": []}


@dataclass
class MadeUp:
    """A server that answers every chat with token 5.

    Attributes:
        strange_from: number of the first chat that gets token 6.
        gone_from: number of the first chat that gets no answer.
        kv_usage: share of KV blocks in use.
        num_chats: so far.
        refuses: counts every chat as one with an unknown key.
    """

    strange_from: int = 1000
    gone_from: int = 1000
    kv_usage: float = 0.0
    num_chats: int = 0
    refuses: bool = False
    url: str = field(default="", init=False)

    def chat(self, body: dict) -> list[dict] | None:
        """Chunks of an answer."""
        self.num_chats += 1
        if self.num_chats > self.gone_from:
            return None
        token = 6 if self.num_chats > self.strange_from else 5
        choice = {"index": 0, "token_ids": [token], "finish_reason": "stop", "logprobs": {"content": [LOGPROB]}}
        return [{"choices": [choice], "usage": {"sparsity": {"kept_tokens_per_layer": [1]}}}]

    def metrics(self) -> str:
        refused = self.num_chats if self.refuses else 0
        return (
            f"vllm:kv_cache_usage_perc {self.kv_usage}\nvllm:num_preemptions_total {self.num_chats}\n"
            f'winnow_refused_requests_total{{reason="rate"}} 7\n'
            f'winnow_refused_requests_total{{reason="unauthorized"}} {refused}\n'
        )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/metrics":
            self._send("text/plain", self.server.made_up.metrics())
        else:
            self._send("application/json", json.dumps({"data": [{"id": "demo"}]}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            self._send("application/json", json.dumps({"tokens": [1]}))
        elif (chunks := self.server.made_up.chat(body)) is None:
            self.close_connection = True
        elif body.get("stream"):
            lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
            self._send("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))
        else:
            self._send("application/json", json.dumps(chunks[0]))

    def _send(self, content_type: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def made_up() -> Iterator[MadeUp]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.made_up = MadeUp()
        server.made_up.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.made_up
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _greedy_requests_alone(monkeypatch):
    monkeypatch.setattr(plan, "KINDS", {"greedy": plan.KINDS["greedy"]})


def run(made_up: MadeUp) -> list[driver.Leg]:
    return asyncio.run(soak(RunningServer(made_up.url, os.getpid()), WANTED, lambda count: None))


def test_legs_count_what_came_back(made_up):
    legs = run(made_up)
    assert [leg.outcomes for leg in legs] == [{"answered": count, "equal": count} for count in (8, 8, 4)]
    assert [leg.counted["preemptions"] for leg in legs] == [8, 8, 4]
    assert all(len(leg.answered_s) == len(leg.slowdowns) == leg.outcomes["answered"] for leg in legs)
    assert all(leg.footprint.server_mib > 1 for leg in legs)
    # All prompts were asked again.
    assert made_up.num_chats == NUM_BEFORE + 20 + WANTED.num_prompts


def test_an_answer_unlike_the_one_alone_is_named(made_up):
    made_up.strange_from = NUM_BEFORE + 5
    with pytest.raises(BenchmarkError, match=r"3 requests of a leg failed. request \d \(greedy\) generated \[6\], but"):
        run(made_up)


def test_a_soak_that_goes_wrong_does_not_go_on(made_up, monkeypatch):
    monkeypatch.setattr(driver, "MAX_FAULTS", 2)
    made_up.strange_from = NUM_BEFORE
    with pytest.raises(BenchmarkError):
        run(made_up)
    assert made_up.num_chats <= NUM_BEFORE + 2 * WANTED.concurrency


def test_a_block_that_stays_is_lost(made_up, monkeypatch):
    monkeypatch.setattr(watch, "IDLE_LIMIT_S", 0.2)
    made_up.kv_usage = 0.25
    with pytest.raises(BenchmarkError, match=r"After request 7 the server .* {'vllm:kv_cache_usage_perc': 0.25}"):
        run(made_up)


def test_refusals_that_the_server_counts_and_nobody_saw(made_up):
    made_up.refuses = True
    with pytest.raises(BenchmarkError, match=r"The server counted {'refused_unauthorized': 8.0}, but clients saw"):
        run(made_up)


def test_a_server_that_answers_otherwise_in_the_end_is_not_whole(made_up):
    made_up.strange_from = NUM_BEFORE + 20
    with pytest.raises(BenchmarkError, match="After the soak, a greedy request alone generated"):
        run(made_up)


@pytest.mark.parametrize("number", [0, NUM_BEFORE + 3, NUM_BEFORE + 20], ids=["before", "within", "after"])
def test_requests_without_an_answer_are_one_line(made_up, number):
    made_up.gone_from = number
    with pytest.raises(BenchmarkError, match="was not answered"):
        run(made_up)
