"""Answers as figures: accuracy and ratios of one model at one `sparsity_p`, and tables of them."""

from collections.abc import Callable, Iterable, Sequence
from statistics import mean
from typing import Any

from measurement.tables import markdown_table
from training.evaluation.engine import Answer
from training.evaluation.questions import Question
from training.rewards.answers import read_answer
from training.rewards.scores import Grading, score_answer

UNITS = {
    "accuracy": "mean score, 1 for a right answer",
    "token_ratio": "tokens kept / tokens",
    "kv_ratio": "KV blocks kept / KV blocks",
}


def scores(questions: Sequence[Question], answers: Sequence[Answer], grading: Grading) -> list[float]:
    """The score of each answer, as the training reward has it."""
    return [
        score_answer(question.problem_type, right, given, grading)
        for question, answer in zip(questions, answers, strict=True)
        for given, right in [read_answer(answer.text, question.solution)]
    ]


def summarise(
    model: str, sparsity_p: float, questions: Sequence[Question], answers: Sequence[Answer], points: Sequence[float]
) -> dict[str, Any]:
    """One row of the summary.

    Args:
        model: its label.
        sparsity_p: at which it was asked.
        questions: what was asked.
        answers: in the same order.
        points: the scores of the answers.
    """
    ratios = [answer.token_ratio for answer in answers]
    return {
        "model": model,
        "sparsity_p": sparsity_p,
        "num_questions": len(questions),
        "accuracy": mean(points),
        "accuracy_by_kind": _means(questions, points, lambda question: question.kind),
        "accuracy_by_type": _means(questions, points, lambda question: question.type),
        "token_ratio": mean(ratios),
        "token_ratio_by_type": _means(questions, ratios, lambda question: question.type),
        "kv_ratio": mean(answer.kv_ratio for answer in answers),
    }


def _means(questions: Sequence[Question], values: Sequence[float], key: Callable[[Question], str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for question, value in zip(questions, values, strict=True):
        groups.setdefault(key(question), []).append(value)
    return {name: mean(group) for name, group in sorted(groups.items())}


def sample(model: str, sparsity_p: float, question: Question, answer: Answer, points: float) -> dict[str, Any]:
    """One answer, for the result file."""
    return {
        "model": model,
        "sparsity_p": sparsity_p,
        "type": question.type,
        "solution": question.solution,
        "reply": answer.text,
        "score": points,
        "num_prompt_tokens": answer.num_prompt_tokens,
        "token_ratio": round(answer.token_ratio, 4),
        "kv_ratio": round(answer.kv_ratio, 4),
    }


def tables(summary: Sequence[dict[str, Any]]) -> str:
    """The main table, and one for each model with accuracy and token ratio by question type."""
    kinds = sorted({kind for row in summary for kind in row["accuracy_by_kind"]})
    main = markdown_table(
        ["model", "sparsity_p", "accuracy", *(f"accuracy, {kind}" for kind in kinds), "token ratio", "KV ratio"],
        [
            [
                row["model"],
                f"{row['sparsity_p']:g}",
                *_cells([row["accuracy"], *(row["accuracy_by_kind"].get(kind) for kind in kinds)]),
                *_cells([row["token_ratio"], row["kv_ratio"]]),
            ]
            for row in summary
        ],
    )
    parts = [main]
    for model in dict.fromkeys(row["model"] for row in summary):
        rows = [row for row in summary if row["model"] == model]
        parts.append(f"{model}: accuracy / token ratio by question type\n\n{_by_type(rows)}")
    return "\n\n".join(parts)


def _by_type(rows: Sequence[dict[str, Any]]) -> str:
    return markdown_table(
        ["question type", *(f"{row['sparsity_p']:g}" for row in rows)],
        [
            [name, *(f"{row['accuracy_by_type'][name]:.3f} / {row['token_ratio_by_type'][name]:.2f}" for row in rows)]
            for name in rows[0]["accuracy_by_type"]
        ],
    )


def _cells(values: Iterable[float | None]) -> list[str]:
    return ["-" if value is None else f"{value:.3f}" for value in values]
