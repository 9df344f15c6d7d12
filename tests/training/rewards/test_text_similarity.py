"""Word error rate and ROUGE, against values worked by hand."""

import pytest

from training.rewards.text_similarity import edit_distance, rouge, word_error_rate


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 2), ("flaw", "lawn", 2)],
)
def test_edit_distance(left, right, distance):
    assert edit_distance(left, right) == distance


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("a b c d", "a b c d", 0.0),
        ("a b c d", "a x c d", 1 / 4),
        ("a b c d", "a b d", 1 / 4),
        ("a b", "a b c d e", 3 / 2),
        ("a  b\n", " a b", 0.0),
        ("a", "A", 1.0),
        ("a b c", "", 1.0),
        ("", "", 0.0),
        ("", "a b", 1.0),
    ],
)
def test_word_error_rate(reference, hypothesis, rate):
    assert word_error_rate(reference, hypothesis) == pytest.approx(rate)


def test_rouge_by_hand():
    # Words: the cat sat on the mat (6) and the cat lay on a mat (6).
    # ROUGE-1: the, cat, on, mat in common: 2 * 4 / 12. ROUGE-2: "the cat" only: 2 * 1 / 10.
    # ROUGE-L: the cat on mat: 2 * 4 / 12.
    expected = (8 / 12 + 2 / 10 + 8 / 12) / 3
    assert rouge("The cat sat on the mat.", "the cat lay on a mat") == pytest.approx(expected)


def test_rouge_counts_repeated_words_once_each():
    # ROUGE-1: one "the" in common of 1 and 4; ROUGE-2 has no pair in the reference; ROUGE-L: 1.
    assert rouge("the", "the the the the") == pytest.approx((2 / 5 + 2 / 5) / 2)


def test_order_matters_to_rouge():
    # The same three words, turned around: ROUGE-1 1, ROUGE-2 0, ROUGE-L 2 * 1 / 6.
    assert rouge("a b c", "c b a") == pytest.approx((1 + 0 + 1 / 3) / 3)


@pytest.mark.parametrize("text", ["blue", "A red car.", "红色的车", "naïve café"])
def test_equal_texts_are_worth_one(text):
    assert rouge(text, text.upper()) == 1.0


@pytest.mark.parametrize(("reference", "hypothesis"), [("blue", "red"), ("blue", ""), ("", "blue")])
def test_nothing_in_common_is_worth_nothing(reference, hypothesis):
    assert rouge(reference, hypothesis) == 0.0


def test_characters_without_spaces_are_words():
    # Four characters, three in common, in order: ROUGE-1 6 / 8, pairs 红色 and 色的 2 * 2 / 6, ROUGE-L 6 / 8.
    assert rouge("红色的车", "红色的船") == pytest.approx((6 / 8 + 4 / 6 + 6 / 8) / 3)
