"""Figures and tables, against numbers worked by hand."""

import pytest

from training.evaluation.engine import Answer
from training.evaluation.questions import Question
from training.evaluation.summary import sample, scores, summarise, tables


def question(kind: str, solution: str, problem_type: str = "exact") -> Question:
    return Question([], (), (), solution, problem_type, kind)


QUESTIONS = [
    question("image/color", "red"),
    question("image/color", "blue"),
    question("image/digit", "3"),
    question("video/regression", "<answer>100</answer>", "regression"),
]
ANSWERS = [
    Answer(" red", 0.5, 0.6, 100),
    Answer("red", 0.3, 0.4, 100),
    Answer("3", 0.1, 0.2, 100),
    Answer("<answer>90</answer>", 0.9, 1.0, 100),
]


def test_scores_are_those_of_the_training_reward():
    assert scores(QUESTIONS, ANSWERS, "binary") == [1, 0, 1, 0]
    assert scores(QUESTIONS, ANSWERS, "graded") == pytest.approx([1, 0, 1, 0.9])


def test_summary_by_hand():
    row = summarise("demo", 0.975, QUESTIONS, ANSWERS, [1, 0, 1, 0])
    assert row == {
        "model": "demo",
        "sparsity_p": 0.975,
        "num_questions": 4,
        "accuracy": 0.5,
        "accuracy_by_kind": {"image": pytest.approx(2 / 3), "video": 0},
        "accuracy_by_type": {"image/color": 0.5, "image/digit": 1, "video/regression": 0},
        "token_ratio": pytest.approx(0.45),
        "token_ratio_by_type": {"image/color": 0.4, "image/digit": 0.1, "video/regression": 0.9},
        "kv_ratio": pytest.approx(0.55),
    }


def test_tables_by_hand():
    rows = [summarise(model, 0.975, QUESTIONS, ANSWERS, [1, 0, 1, 0]) for model in ("base", "trained")]
    lines = tables(rows).splitlines()
    assert lines[0] == "| model | sparsity_p | accuracy | accuracy, image | accuracy, video | token ratio | KV ratio |"
    assert lines[2] == "| base | 0.975 | 0.500 | 0.667 | 0.000 | 0.450 | 0.550 |"
    assert lines[3].startswith("| trained | 0.975 |")
    assert lines.count("| image/color | 0.500 / 0.40 |") == 2
    assert "trained: accuracy / token ratio by question type" in lines


def test_kinds_that_were_not_asked_have_no_figure():
    rows = [
        summarise("a", 1.0, QUESTIONS[:3], ANSWERS[:3], [1, 1, 1]),
        summarise("b", 1.0, QUESTIONS[3:], ANSWERS[3:], [1]),
    ]
    assert "| a | 1 | 1.000 | 1.000 | - |" in tables(rows)


def test_samples_hold_what_was_said():
    assert sample("demo", 0.9, QUESTIONS[0], ANSWERS[0], 1.0) == {
        "model": "demo",
        "sparsity_p": 0.9,
        "type": "image/color",
        "solution": "red",
        "reply": " red",
        "score": 1.0,
        "num_prompt_tokens": 100,
        "token_ratio": 0.5,
        "kv_ratio": 0.6,
    }
