"""The quality case, against a made-up OpenAI server."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from benchmarks.cases import quality
from benchmarks.errors import BenchmarkError
from measurement.results import Result


class OneAnswer(BaseHTTPRequestHandler):
    """Answers "yes" to everything, and keeps half of the tokens where it may: all in the last of two layers."""

    bodies: list[dict]

    def do_GET(self):
        self._reply({"data": [{"id": "made-up"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        usage = {"prompt_tokens": 10}
        if "stock" not in self.path:
            usage["sparsity"] = self._sparsity(1.0 if body["sparsity_p"] == 1.0 else 0.5)
        self._reply({"choices": [{"message": {"content": " yes"}}], "usage": usage})

    def _sparsity(self, ratio: float) -> dict:
        return {
            "token_ratio": ratio,
            "kv_ratio": ratio + 0.1 * (ratio < 1),
            "kept_tokens_per_layer": [10, 10] if ratio == 1.0 else [1, 10],
        }

    def _reply(self, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args) -> None:
        """Quiet."""


class Ranked(OneAnswer):
    """A server of another ranking; it answers nothing."""

    def _sparsity(self, ratio: float) -> dict:
        return super()._sparsity(ratio) | {"ranking": "random"}


@contextmanager
def running(handler: type[OneAnswer]) -> Iterator[str]:
    """The address of a server."""
    handler.bodies = []
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def url() -> Iterator[str]:
    with running(OneAnswer) as url:
        yield url


def arguments(*argv: str) -> Namespace:
    parser = ArgumentParser()
    quality.add_arguments(parser)
    return parser.parse_args(argv)


def test_every_question_is_asked_at_every_p_and_counted(url):
    result = quality.run(arguments("--url", url, "--count", "34", "--sparsity-p", "1", "0.9"))

    assert sorted({body["sparsity_p"] for body in OneAnswer.bodies}) == [0.9, 1.0]
    assert len(OneAnswer.bodies) == len(result.samples) == 68
    kinds = {part["type"] for body in OneAnswer.bodies for part in body["messages"][0]["content"]}
    assert kinds == {"image_url", "video_url", "text"}

    dense, sparse = result.summary
    right = sum(sample["answer"] == "yes" for sample in result.samples[:34])
    assert dense["accuracy"] == pytest.approx(right / 34)
    assert (dense["token_ratio"], sparse["token_ratio"]) == (1.0, 0.5)
    assert sparse["kv_ratio"] == pytest.approx(0.6)
    assert [sample["layer_token_ratios"] for sample in result.samples[33:35]] == [[1.0, 1.0], [0.1, 1.0]]


def test_table_by_hand(url):
    result = quality.run(arguments("--url", url, "--count", "34", "--sparsity-p", "1", "0.9"))
    row = quality.table(result).splitlines()[3]
    image, video = (result.summary[0]["accuracy_by_kind"][kind] for kind in ("image", "video"))
    assert row == f"| 0.9 | {image:.3f} | {video:.3f} | 0.500 | 0.600 |"


def test_each_baseline_has_a_server_of_its_own_and_is_asked_only_where_it_prunes(monkeypatch):
    started = []

    @contextmanager
    def serving(model: str, options: list[str]) -> Iterator[str]:
        started.append((model, options))
        with running(Ranked if "random" in options else OneAnswer) as url:
            yield url

    monkeypatch.setattr(quality, "serving", serving)
    result = quality.run(arguments("--count", "5", "--sparsity-p", "1", "0.9", "--baselines", "random"))
    zipvl = ["--selection", "zipvl"]
    assert started == [("demo", zipvl), ("demo", [*zipvl, "--ranking", "random"])]
    rows = [(row["ranking"], row["sparsity_p"]) for row in result.summary]
    assert rows == [("attention", 1.0), ("attention", 0.9), ("random", 0.9)]


def test_a_server_that_ranks_otherwise_than_told_is_not_measured():
    with running(Ranked) as url, pytest.raises(BenchmarkError, match="ranking is random, but must be attention"):
        quality.run(arguments("--url", url, "--count", "3", "--sparsity-p", "1"))


def test_stock_vllm_is_not_taken_for_ours():
    with running(OneAnswer) as url, pytest.raises(BenchmarkError, match="lacks `sparsity`"):
        quality.run(arguments("--url", f"{url}/stock", "--count", "3", "--sparsity-p", "1"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(["--sparsity-p", "0.9"], "among them 1, the dense baseline", id="no dense baseline"),
        pytest.param(["--sparsity-p", "1", "0"], r"numbers in \(0, 1\]", id="zero"),
        pytest.param(["--count", "0"], "--count is 0", id="no questions"),
        pytest.param(
            ["--url", "http://127.0.0.1:9", "--baselines", "random"], "Leave --url out", id="url and baseline"
        ),
        pytest.param(["--url", "http://127.0.0.1:9", "--count", "2"], "does not answer", id="nobody there"),
    ],
)
def test_bad_input_is_one_line(argv, message):
    with pytest.raises(BenchmarkError, match=message) as refused:
        quality.run(arguments(*argv))
    assert "\n" not in str(refused.value)


def row(ranking: str, sparsity_p: float, accuracy: float, token_ratio: float) -> dict:
    accuracies = {
        "accuracy": accuracy,
        "accuracy_by_kind": {"image": accuracy},
        "accuracy_by_type": {"image/a": accuracy},
    }
    settings = {"ranking": ranking, "sparsity_p": sparsity_p, "num_questions": 100}
    return settings | accuracies | {"token_ratio": token_ratio, "kv_ratio": token_ratio}


def sample(kind: str, sparsity_p: float, layers: list[float], ranking: str = "attention") -> dict:
    return {"ranking": ranking, "sparsity_p": sparsity_p, "type": kind, "layer_token_ratios": layers}


@pytest.fixture
def measured() -> Result:
    return Result(
        "quality",
        {"count": 100, "seed": 5},
        {},
        {},
        [
            row("attention", 1.0, 0.9, 1.0),
            row("attention", 0.6, 0.4, 0.2),
            row("attention", 0.95, 0.8, 0.6),
            row("recent", 0.6, 0.1, 0.25),
            row("recent", 0.95, 0.5, 0.65),
        ],
        [
            sample("image/a", 0.95, [0.1, 0.5]),
            sample("image/a", 0.95, [0.3, 0.7]),
            sample("image/b", 0.95, [1.0, 0.4]),
            sample("image/b", 0.6, [0.0, 0.0]),
            sample("image/b", 0.95, [0.0, 0.0], ranking="recent"),
        ],
    )


def test_baselines_stand_beside_ours_with_their_own_ratio(measured):
    lines = quality.table(measured).splitlines()
    assert "| `sparsity_p` | tokens kept: attention mass | tokens kept: most recent |" in lines
    assert "| 0.95 | 0.800 (0.600) | 0.500 (0.650) |" in lines
    assert "| 0.6 | 0.400 (0.200) | 0.100 (0.250) |" in lines


def test_lines_run_along_the_token_ratio_and_share_the_dense_point(measured):
    (axes,) = quality.figures(measured)["accuracy"].axes
    lines = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    assert lines == {
        "attention mass": [(0.2, 0.4), (0.6, 0.8), (1.0, 0.9)],
        "most recent": [(0.25, 0.1), (0.65, 0.5), (1.0, 0.9)],
    }


def test_layer_map_holds_the_means_of_ours_at_the_value_nearest_to_0_975(measured):
    axes = quality.figures(measured)["layers"].axes[0]
    assert "sparsity_p 0.95" in axes.get_title(loc="left")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["image/a", "image/b"]
    assert axes.images[0].get_array().tolist() == [pytest.approx([0.2, 1.0]), pytest.approx([0.6, 0.4])]


def test_results_without_layers_have_no_layer_map(measured):
    for old in measured.samples:
        del old["layer_token_ratios"]
    assert list(quality.figures(measured)) == ["accuracy"]


def test_confidence_by_hand():
    # Wilson, 1 of 2 at one deviation: centre 1/2, half width sqrt(1/8 + 1/16) / (3/2).
    low, high = quality.confidence(0.5, 2, deviations=1.0)
    assert (low, high) == pytest.approx((0.5 - 0.1875**0.5 / 1.5, 0.5 + 0.1875**0.5 / 1.5))
    assert quality.confidence(1.0, 100)[0] == pytest.approx(0.963, abs=1e-3)
