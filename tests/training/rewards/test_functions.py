"""Reward functions as TRL calls them."""

import pytest

from training.rewards import UnknownProblemType, accuracy_reward, format_reward


def said(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


# One batch of five problem types, the first of which must decide nothing about the others.
COMPLETIONS = [
    said("<answer>B</answer>"),
    said("<answer>12.50</answer>"),
    said("<answer>one two three four</answer>"),
    said("blue"),
    said("<answer>90</answer>"),
    said("B"),
]
SOLUTIONS = [
    "<answer>B</answer>",
    "<answer>12.5</answer>",
    "<answer>one two three five</answer>",
    "blue",
    "<answer>100</answer>",
    "<answer>B</answer>",
]
TYPES = ["multiple choice", "numerical", "OCR", "exact", "regression", "multiple choice"]


def call(reward, **columns):
    return reward(prompts=None, completions=COMPLETIONS, completion_ids=None, solution=SOLUTIONS, **columns)


def test_each_row_by_its_own_type():
    assert call(accuracy_reward(), problem_type=TYPES, source=["x:1"] * 6) == [1, 1, 0, 1, 0, 0]
    assert call(accuracy_reward("graded"), problem_type=TYPES) == pytest.approx([1, 1, 0.75, 1, 0.9, 0])


def test_any_order_gives_the_same_rewards():
    turned = [list(reversed(column)) for column in (COMPLETIONS, SOLUTIONS, TYPES)]
    rewards = accuracy_reward("graded")(completions=turned[0], solution=turned[1], problem_type=turned[2])
    assert rewards == call(accuracy_reward("graded"), problem_type=TYPES)[::-1]


def test_rows_of_other_types_get_none():
    reward = accuracy_reward("graded", only=("OCR", "regression"))
    assert call(reward, problem_type=TYPES) == pytest.approx([None, None, 0.75, None, 0.9, None])
    assert reward.__name__ == "accuracy OCR regression"
    assert accuracy_reward().__name__ == "accuracy"


def test_rows_without_a_solution_get_none():
    assert accuracy_reward()(completions=["a", "b"], solution=[None, "b"], problem_type=["exact"] * 2) == [None, 1.0]


def test_unknown_types_are_refused_and_not_passed_over():
    with pytest.raises(UnknownProblemType, match="only names essay"):
        accuracy_reward(only=("essay",))
    with pytest.raises(UnknownProblemType, match="problem_type is 'essay'"):
        accuracy_reward(only=("OCR",))(completions=["a"], solution=["a"], problem_type=["essay"])


def test_completions_of_every_shape():
    parts = [{"role": "assistant", "content": [{"type": "text", "text": "bl"}, {"type": "text", "text": "ue"}]}]
    shapes = ["blue", said(" blue\n"), parts, [], [{"role": "assistant", "content": None}]]
    rewards = accuracy_reward()(completions=shapes, solution=["blue"] * 5, problem_type=["exact"] * 5)
    assert rewards == [1, 1, 1, 0, 0]


def test_format_is_rewarded_only_where_it_was_asked_for():
    good = "<think>so\nand so</think>\n<answer>B</answer>"
    texts = [good, good + " indeed", "<answer>B</answer>", "<think></think><answer>B</answer>", good, good]
    solutions = ["<answer>B</answer>"] * 4 + ["B", None]
    assert format_reward(completions=[said(text) for text in texts], solution=solutions) == [1, 0, 0, 0, None, None]
