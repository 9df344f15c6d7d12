"""Reward functions with TRL's signature: `reward(prompts, completions, completion_ids, **columns) -> list`."""

from collections.abc import Callable, Collection
from typing import Any

from training.rewards.answers import REASONED_ANSWER, read_answer, tagged_answer
from training.rewards.scores import PROBLEM_TYPES, Grading, UnknownProblemType, score_answer

Reward = Callable[..., list[float | None]]


def accuracy_reward(grading: Grading = "binary", only: Collection[str] = PROBLEM_TYPES) -> Reward:
    """The reward for right answers.

    Each row is scored by its own problem type, whatever the others of its batch are.

    Args:
        grading: see `score_answer`.
        only: problem types that the function is for. Rows of other types, and rows without a solution, get None, which
            TRL leaves out of the sum; so several functions can share a data set, each with a weight and a curve.

    Returns:
        A function that reads the columns `solution` and `problem_type`.

    Raises:
        UnknownProblemType: `only` names a type that does not exist.
    """
    if unknown := sorted(set(only) - set(PROBLEM_TYPES)):
        raise UnknownProblemType(
            f"only names {', '.join(unknown)}, but problem types are {', '.join(PROBLEM_TYPES)}. Choose among these."
        )

    def reward(
        completions: list[Any], solution: list[str | None], problem_type: list[str], **_columns: Any
    ) -> list[float | None]:
        rows = zip(completions, solution, problem_type, strict=True)
        return [_row_accuracy(completion_text(text), right, kind, grading, only) for text, right, kind in rows]

    # TRL names the metric after the function.
    reward.__name__ = "accuracy" if set(only) == set(PROBLEM_TYPES) else "accuracy " + " ".join(sorted(only))
    return reward


def _row_accuracy(
    completion: str, solution: str | None, problem_type: str, grading: Grading, only: Collection[str]
) -> float | None:
    # An unknown type is a mistake in the data and goes on, to be refused; a known one that is not ours is not.
    if solution is None or (problem_type in PROBLEM_TYPES and problem_type not in only):
        return None
    given, right = read_answer(completion, solution)
    return score_answer(problem_type, right, given, grading)


def format_reward(completions: list[Any], solution: list[str | None], **_columns: Any) -> list[float | None]:
    """1 for `<think>...</think><answer>...</answer>` and nothing else, 0 otherwise.

    None for rows whose solution has no tags: those prompts did not ask for them.
    """
    asks = [right is not None and tagged_answer(right) is not None for right in solution]
    texts = map(completion_text, completions)
    return [
        float(REASONED_ANSWER.fullmatch(text) is not None) if asked else None
        for asked, text in zip(asks, texts, strict=True)
    ]


def completion_text(completion: Any) -> str:
    """The text of a completion as TRL hands it on: a string, or messages whose content is a string or parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] if completion else ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())
