"""What one answer is worth, by problem type, between 0 and 1.

The types are those of Video-R1-260k, and "exact". The papers' reward is binary; what counts as correct there for
transcriptions, free text and regression they do not say, so those bounds are ours.
"""

from collections.abc import Callable
from typing import Literal, get_args

from attention_backend.errors import WinnowError
from training.rewards.answers import choice_letter, number
from training.rewards.text_similarity import rouge, word_error_rate

Grading = Literal["binary", "graded"]
GRADINGS: tuple[str, ...] = get_args(Grading)


class UnknownProblemType(WinnowError):
    """A row has a problem type that no score is known for."""


def _exact(right: str, given: str) -> float:
    return float(right == given)


def _multiple_choice(right: str, given: str) -> float:
    letter = choice_letter(right)
    if letter:
        return float(letter == choice_letter(given))
    # The solution is written out, such as "yes".
    return float(right.strip(" .").casefold() == given.strip(" .").casefold())


def _numerical(right: str, given: str) -> float:
    """Equal after rounding to two decimals."""
    numbers = number(right), number(given)
    return float(None not in numbers and round(numbers[0], 2) == round(numbers[1], 2))


def _transcription(right: str, given: str) -> float:
    return max(0.0, 1.0 - word_error_rate(right, given))


def _regression(right: str, given: str) -> float:
    """1 less the relative error."""
    target, value = number(right), number(given)
    if target is None or value is None:
        return 0.0
    if target == 0:
        return float(value == 0)
    return max(0.0, 1.0 - abs(value - target) / abs(target))


SCORES: dict[str, Callable[[str, str], float]] = {
    "multiple choice": _multiple_choice,
    "numerical": _numerical,
    "OCR": _transcription,
    "free-form": rouge,
    "regression": _regression,
    "exact": _exact,
}
"""Problem type -> graded score of (right answer, given answer)."""

PROBLEM_TYPES: tuple[str, ...] = tuple(SCORES)

CORRECT_FROM = {"OCR": 0.9, "free-form": 0.5, "regression": 0.95}
"""Graded score from which an answer counts as correct in binary grading; 1 for the types not named."""


def score_answer(problem_type: str, right: str, given: str | None, grading: Grading = "binary") -> float:
    """What an answer is worth.

    Args:
        problem_type: one of `PROBLEM_TYPES`.
        right: the right answer, without tags.
        given: the model's answer, without tags; None where it gave none, which is worth nothing.
        grading: "binary" is 0 or 1; "graded" has what lies between for OCR, free-form and regression.

    Raises:
        UnknownProblemType: `problem_type` is not one of `PROBLEM_TYPES`.
        ValueError: `grading` is not one of `GRADINGS`.
    """
    if grading not in GRADINGS:
        raise ValueError(f"grading is {grading!r}, but must be one of {', '.join(GRADINGS)}. Choose one of these.")
    if problem_type not in SCORES:
        raise UnknownProblemType(
            f"problem_type is {problem_type!r}, but must be one of {', '.join(PROBLEM_TYPES)}. Correct it in the data."
        )
    if given is None:
        return 0.0
    score = SCORES[problem_type](right, given)
    if grading == "graded":
        return score
    # Floating-point noise must not turn nine words of ten into a wrong answer.
    return float(score + 1e-9 >= CORRECT_FROM.get(problem_type, 1.0))
