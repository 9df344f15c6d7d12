"""The papers' figures and ours beside them."""

from dataclasses import replace

import pytest

from benchmarks.papers import DENSE, harness_results, papers_table, published
from measurement.results import Result, write

ROW = {
    "model": "Qwen2.5-VL-7B",
    "method": "Sparsity Forcing",
    "benchmark": "ChartQA",
    "score": 81.25,
    "sparsity_p": 0.975,
    "token_ratio": 0.3,
}


def result(*rows: dict, case: str = "harness") -> Result:
    return Result(case, {}, {}, {}, list(rows), [])


def line_of(table: str, *cells: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(f"| {' | '.join(cells)} |"))


@pytest.mark.parametrize("score", published()["scores"], ids=lambda score: "-".join(score.key))
def test_every_number_names_its_paper_table_and_source(score):
    content = published()
    assert score.paper in content["papers"]
    assert score.source in content["sources"]
    assert score.table
    assert score.token_ratio is None or 0 < score.token_ratio <= 1
    assert (score.sparsity_p == 1.0) == (score.method == DENSE)


def test_every_other_figure_names_its_source():
    content = published()
    assert {row["source"] for row in content["figures"]} <= set(content["sources"])
    assert {row["paper"] for row in content["figures"]} <= set(content["papers"])


def test_no_score_stands_twice():
    keys = [
        (score.paper, score.model, score.benchmark, score.method, score.sparsity_p) for score in published()["scores"]
    ]
    assert len(keys) == len(set(keys))


def test_without_results_nothing_of_ours_is_shown():
    table = papers_table([])
    # Dense and pruned, in every row of the first table.
    assert table.count("not yet measured") == 2 * sum(score.method != DENSE for score in published()["scores"])


def test_ours_stand_beside_theirs_by_model_benchmark_and_method():
    dense = ROW | {"method": "dense", "score": 84.5, "sparsity_p": 1.0, "token_ratio": 1.0}
    table = papers_table({"harness": result(ROW, dense), "quality": result({"anything": 1}, case="quality")})

    line = line_of(table, "Qwen2.5-VL-7B", "ChartQA", "Sparsity Forcing")
    assert line.endswith("| 84.5 | 81.25 (p 0.975, token ratio 0.300) |")
    assert "| 84 | 83.1 (p 0.975, token ratio 0.247) [6] |" in line
    # The method of the untrained model, another benchmark and another model are other things.
    for cells, here in [
        (("Qwen2.5-VL-7B", "ChartQA", "ZipVL"), "| 84.5 | not yet measured |"),
        (("Qwen2.5-VL-7B", "TextVQA", "Sparsity Forcing"), "| not yet measured | not yet measured |"),
        (("LLaVA-v1.5-7B", "ChartQA", "ZipVL"), "| not yet measured | not yet measured |"),
    ]:
        assert line_of(table, *cells).endswith(here)


def test_results_of_harnesses_are_read_from_their_folder(tmp_path):
    stored = result(ROW)
    write(stored, tmp_path / "harnesses")
    write(replace(stored, case="quality"), tmp_path)
    assert harness_results(tmp_path) == [stored]
