"""The accuracy case, against a made-up OpenAI server."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from benchmarks.cases import accuracy


class OneAnswer(BaseHTTPRequestHandler):
    """Answers "yes" to everything, and keeps half of the tokens where it may."""

    bodies: list[dict]

    def do_GET(self):
        self._reply({"data": [{"id": "made-up"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        ratio = 1.0 if body["sparsity_p"] == 1.0 else 0.5
        usage = {"prompt_tokens": 10, "sparsity": {"token_ratio": ratio, "kv_ratio": ratio + 0.1 * (ratio < 1)}}
        self._reply({"choices": [{"message": {"content": " yes"}}], "usage": usage})

    def _reply(self, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    OneAnswer.bodies = []
    with ThreadingHTTPServer(("127.0.0.1", 0), OneAnswer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def arguments(*argv: str) -> Namespace:
    parser = ArgumentParser()
    accuracy.add_arguments(parser)
    return parser.parse_args(argv)


def test_every_question_is_asked_at_every_p_and_counted(server):
    url = f"http://127.0.0.1:{server.server_address[1]}"
    result = accuracy.run(arguments("--url", url, "--count", "34", "--sparsity-p", "1", "0.9"))

    assert sorted({body["sparsity_p"] for body in OneAnswer.bodies}) == [0.9, 1.0]
    assert len(OneAnswer.bodies) == len(result.samples) == 68
    kinds = {part["type"] for body in OneAnswer.bodies for part in body["messages"][0]["content"]}
    assert kinds == {"image_url", "video_url", "text"}

    dense, sparse = result.summary
    right = sum(sample["answer"] == "yes" for sample in result.samples[:34])
    assert dense["accuracy"] == pytest.approx(right / 34)
    assert (dense["token_ratio"], sparse["token_ratio"]) == (1.0, 0.5)
    assert sparse["kv_ratio"] == pytest.approx(0.6)


def test_table_by_hand(server):
    url = f"http://127.0.0.1:{server.server_address[1]}"
    result = accuracy.run(arguments("--url", url, "--count", "34", "--sparsity-p", "0.9"))
    row = accuracy.table(result).splitlines()[2]
    image, video = (result.summary[0]["accuracy_by_kind"][kind] for kind in ("image", "video"))
    assert row == f"| 0.9 | {image:.3f} | {video:.3f} | 0.500 | 0.600 |"
