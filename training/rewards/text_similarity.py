"""How alike two texts are: word error rate and ROUGE.

Written here because the package `rouge-score` has not been released since 2022 and brings NLTK with it.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence

# Words; and each Chinese, Japanese or Korean character for itself, since no spaces part those.
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_぀-ヿ㐀-鿿가-힯]+")


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Words to insert, delete or replace, per word of the reference; can be above 1."""
    right, given = reference.split(), hypothesis.split()
    if not right:
        return float(len(given) > 0)
    return edit_distance(right, given) / len(right)


def edit_distance(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    """Levenshtein distance."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def rouge(reference: str, hypothesis: str) -> float:
    """Mean of the F1 values of ROUGE-1, ROUGE-2 and ROUGE-L; in [0, 1].

    Case and punctuation do not count, and words are not stemmed. ROUGE-2 is left out for a reference of one word, which
    has no pair of words: equal texts are worth 1 then too.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
    """
    right, given = _words(reference), _words(hypothesis)
    if not right or not given:
        return float(right == given)
    values = [_ngram_f1(right, given, 1), _f1(_common_subsequence(right, given), len(right), len(given))]
    if len(right) > 1:
        values.append(_ngram_f1(right, given, 2))
    return sum(values) / len(values)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _ngram_f1(right: list[str], given: list[str], order: int) -> float:
    counts = [Counter(zip(*(words[i:] for i in range(order)), strict=False)) for words in (right, given)]
    return _f1((counts[0] & counts[1]).total(), counts[0].total(), counts[1].total())


def _f1(num_common: int, num_right: int, num_given: int) -> float:
    # 2PR / (P + R) with P = common / given and R = common / right.
    return 2 * num_common / (num_right + num_given)


def _common_subsequence(left: list[str], right: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(right) + 1)
    for a in left:
        diagonal = 0
        for j, b in enumerate(right, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]
