"""What answers are worth, by problem type."""

import pytest

from training.rewards import PROBLEM_TYPES, UnknownProblemType, score_answer


@pytest.mark.parametrize(
    ("problem_type", "right", "given", "graded", "binary"),
    [
        ("multiple choice", "B", "B. a dog", 1, 1),
        ("multiple choice", "B", "b", 1, 1),
        ("multiple choice", "B", "C", 0, 0),
        ("multiple choice", "B", "a dog", 0, 0),
        ("multiple choice", "Yes", "yes.", 1, 1),
        ("multiple choice", "Yes", "No", 0, 0),
        ("numerical", "1,234", "1234.0", 1, 1),
        ("numerical", "3.14159", "3.14", 1, 1),
        ("numerical", "3.14", "3.15", 0, 0),
        ("numerical", "3", "three", 0, 0),
        ("OCR", "a b c d e f g h i j", "a b c d e f g h i x", 0.9, 1),
        ("OCR", "a b c d e", "a b c d x", 0.8, 0),
        ("OCR", "a b", "c d e f g", 0, 0),
        ("free-form", "a red car", "a red car", 1, 1),
        ("free-form", "a b c", "c b a", 4 / 9, 0),
        # ROUGE-1 4 / 5, ROUGE-2 2 * 1 / 3, ROUGE-L 4 / 5.
        ("free-form", "a b c", "a b", (0.8 + 2 / 3 + 0.8) / 3, 1),
        ("regression", "200", "190", 0.95, 1),
        ("regression", "200", "180", 0.9, 0),
        ("regression", "2", "10", 0, 0),
        ("regression", "-4", "-5", 0.75, 0),
        ("regression", "0", "0.0", 1, 1),
        ("regression", "0", "0.1", 0, 0),
        ("regression", "1", "many", 0, 0),
        ("exact", "blue", "blue", 1, 1),
        ("exact", "blue", "Blue", 0, 0),
    ],
)
def test_by_hand(problem_type, right, given, graded, binary):
    assert score_answer(problem_type, right, given, "graded") == pytest.approx(graded)
    assert score_answer(problem_type, right, given) == binary


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
@pytest.mark.parametrize("grading", ["binary", "graded"])
def test_no_answer_is_worth_nothing(problem_type, grading):
    assert score_answer(problem_type, "1", None, grading) == 0.0


def test_mistakes_are_refused():
    with pytest.raises(UnknownProblemType, match=r"'essay'.*must be one of multiple choice"):
        score_answer("essay", "a", "a")
    with pytest.raises(ValueError, match="grading is 'soft'"):
        score_answer("exact", "a", "a", "soft")
