"""Reading answers from completions."""

import pytest

from training.rewards.answers import choice_letter, number, read_answer, tagged_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>B</answer>", "B"),
        ("<think>a <b> c</think>\n<answer> two\nlines </answer>", "two\nlines"),
        ("<answer>first</answer> no, <answer>second</answer>", "second"),
        ("<answer>never closed", None),
        ("B", None),
        ("<answer></answer>", ""),
    ],
)
def test_tagged_answer(text, answer):
    assert tagged_answer(text) == answer


def test_tags_are_needed_only_where_the_solution_has_them():
    assert read_answer(" blue ", "blue") == ("blue", "blue")
    assert read_answer("<answer>B</answer>", "<answer> B </answer>") == ("B", "B")
    assert read_answer("B", "<answer>B</answer>") == (None, "B")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(C)", "C"),
        ("D.", "D"),
        ("A) a red car", "A"),
        ("A. a red car", "A"),
        ("E: 3.5", "E"),
        ("The answer is (B).", "B"),
        ("Answer: C", "C"),
        ("A red car", None),
        ("red", None),
        ("", None),
        ("answer A or answer B", None),
        ("The answer is Brown", None),
    ],
)
def test_choice_letter(answer, letter):
    assert choice_letter(answer) == letter


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("42", 42.0),
        ("-3.50", -3.5),
        ("+.5", 0.5),
        ("5.", 5.0),
        ("1,234,567.8", 1234567.8),
        ("1e-3", 0.001),
        ("3/4", 0.75),
        ("1/0", None),
        ("9" * 5000 + "/2", None),
        ("$5", 5.0),
        ("42 %", 42.0),
        ("about 42 cm.", 42.0),
        ("42 = 42.0", 42.0),
        ("3 or 4", None),
        ("none", None),
        ("", None),
        ("B2", None),
    ],
)
def test_number(answer, value):
    assert number(answer) == value
