"""What the papers published, beside what was measured here; `papers/published.json` says where each number is from."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.stored import read_result
from benchmarks.targets import NOT_MEASURED
from measurement.results import Result
from measurement.tables import markdown_table

PUBLISHED = Path(__file__).parent / "papers" / "published.json"
# The case of results that `benchmarks.harnesses.collect` writes.
CASE = "harness"
DENSE = "dense"


@dataclass(frozen=True, slots=True)
class Score:
    """One score of a model on a benchmark, published or measured here.

    Attributes:
        model: as the paper calls it.
        method: "dense", or the paper's name of the method.
        benchmark: as the paper calls it.
        score: in the benchmark's own unit.
        sparsity_p: share of the attention mass kept; None where it is not known.
        token_ratio: kept / total tokens; None where it is not known.
        paper: key of `papers` in the file; None for what was measured here.
        table: of the paper.
        source: key of `sources` in the file.
    """

    model: str
    method: str
    benchmark: str
    score: float
    sparsity_p: float | None = None
    token_ratio: float | None = None
    paper: str | None = None
    table: str | None = None
    source: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two scores comparable."""
        return self.model, self.benchmark, self.method


@cache
def published() -> dict[str, Any]:
    """The file: `papers` and `sources` by key, `scores`, and the other `figures` of the papers."""
    content = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return content | {"scores": [Score(**row) for row in content["scores"]]}


def harness_results(folder: Path) -> list[Result]:
    """Everything that `benchmarks.harnesses.collect` wrote below a folder of results, oldest first.

    Raises:
        BenchmarkError: a file cannot be used.
    """
    return [read_result(path) for path in sorted((folder / "harnesses").glob(f"{CASE}-*.json"))]


def measured(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Score]]:
    """Scores that a harness measured against our server, by model, benchmark and method; no other case has any."""
    found: dict[tuple[str, str, str], list[Score]] = {}
    for result in results:
        if result.case.partition("-")[0] == CASE:
            for row in result.summary:
                score = Score(**row)
                found.setdefault(score.key, []).append(score)
    return found


def papers_table(results: Mapping[str, Result] | Iterable[Result]) -> str:
    """The papers' scores with ours beside, the papers' other figures, and the sources of both, as Markdown.

    Args:
        results: of any case; scores come from those that `benchmarks.harnesses.collect` wrote.
    """
    content = published()
    ours = measured(results.values() if isinstance(results, Mapping) else results)
    dense = {score.key: score for score in content["scores"] if score.method == DENSE}
    numbers = {source: index for index, source in enumerate(content["sources"], 1)}
    rows = [
        [
            score.model,
            score.benchmark,
            score.method,
            _cell(dense.get((score.model, score.benchmark, DENSE))),
            f"{_cell(score)} [{numbers[score.source]}]",
            _ours(ours.get((score.model, score.benchmark, DENSE))),
            _ours(ours.get(score.key)),
        ]
        for score in content["scores"]
        if score.method != DENSE
    ]
    figures = [
        [
            content["papers"][row["paper"]]["title"],
            row["model"],
            row["figure"],
            f"{row['value']:g} [{numbers[row['source']]}]",
        ]
        for row in content["figures"]
    ]
    sources = [f"[{numbers[key]}] {source['where']}: {source['how']}." for key, source in content["sources"].items()]
    return "\n\n".join(
        [
            markdown_table(["model", "benchmark", "method", "paper, dense", "paper", "here, dense", "here"], rows),
            markdown_table(["paper", "model", "figure", "published"], figures),
            "\n".join(f"- {source}" for source in sources),
        ]
    )


def _cell(score: Score | None) -> str:
    """A score with the `sparsity_p` and the token ratio it was reached at."""
    if score is None:
        return "-"
    if score.method == DENSE:
        return f"{score.score:g}"
    settings = [f"p {score.sparsity_p:g}"] if score.sparsity_p is not None else []
    settings += [f"token ratio {score.token_ratio:.3f}"] if score.token_ratio is not None else []
    return f"{score.score:g}" + (f" ({', '.join(settings)})" if settings else "")


def _ours(scores: list[Score] | None) -> str:
    return "; ".join(_cell(score) for score in scores) if scores else NOT_MEASURED
