"""lmms-eval's result files as results of ours."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.harnesses.collect import main, scores
from benchmarks.papers import harness_results, papers_table

RESULTS = {
    "model_name": "qwen@p=0.975",
    "lmms_eval_version": "0.7.3",
    "results": {
        "chartqa": {"alias": "chartqa", "relaxed_overall,none": 0.825},
        "mme": {"mme_perception_score,none": 1650.0, "mme_cognition_score,none": 600.0},
        "mmmu_pro_standard": {"mmmu_acc,none": 0.4},
        "winnow_demo": {"exact_match,none": 0.9},
    },
}


class Metrics(BaseHTTPRequestHandler):
    """Two sparse requests with a mean token ratio of 0.3."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'winnow_token_ratio_sum{model_name="m"} 0.6\nwinnow_token_ratio_count{model_name="m"} 2.0\n')

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def results_file(folder: Path, content: dict = RESULTS, answer: str = "42") -> Path:
    """As lmms-eval writes it with --log_samples."""
    (folder / "20260101_000000_samples_chartqa.jsonl").write_text(json.dumps({"filtered_resps": [answer]}) + "\n")
    path = folder / "20260101_000000_results.json"
    path.write_text(json.dumps(content))
    return path


def test_scores_are_in_the_papers_units_and_need_all_their_parts():
    # MMMU-Pro is the mean of two tasks, of which one is missing.
    assert scores(RESULTS) == {"ChartQA": 82.5, "MME": 2250.0}


def test_a_run_stands_beside_the_papers_figures(tmp_path, url):
    argv = [str(results_file(tmp_path)), "--model", "Qwen2.5-VL-7B", "--method", "Sparsity Forcing", "--url", url]
    main([*argv, "--out", str(tmp_path / "harnesses")])
    table = papers_table(harness_results(tmp_path))
    assert "not yet measured | 82.5 (p 0.975, token ratio 0.300) |" in table
    assert "not yet measured | 2250 (p 0.975, token ratio 0.300) |" in table


@pytest.mark.parametrize(
    ("content", "answer", "options", "message"),
    [
        ({"results": {"pope": {}}} | {"model_name": "m@p=1"}, "a", [], "the results hold pope, but no task"),
        (RESULTS | {"model_name": "qwen"}, "a", [], "sparsity_p is not in the model's name 'qwen'"),
        (RESULTS, "[LMMS_EVAL_REQUEST_FAILED after 5 retries] 400", [], "1 requests of .* failed"),
        (RESULTS, "a", ["--url", "http://127.0.0.1:9"], "does not answer"),
        ({"a": 1}, "a", [], "has no `results`"),
    ],
    ids=["other tasks", "no p", "failed requests", "server gone", "other file"],
)
def test_what_cannot_be_used_is_one_line(tmp_path, content, answer, options, message):
    path = results_file(tmp_path, content, answer)
    with pytest.raises(BenchmarkError, match=message):
        main([str(path), "--model", "m", "--out", str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


def test_answers_must_lie_beside_the_results(tmp_path):
    path = results_file(tmp_path)
    for samples in tmp_path.glob("*.jsonl"):
        samples.unlink()
    with pytest.raises(BenchmarkError, match="Use --log_samples"):
        main([str(path), "--model", "m"])
