"""Read the answer from a completion: the text in its tags, an option's letter, a number."""

import re

ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
REASONED_ANSWER = re.compile(r"\s*<think>.+?</think>\s*<answer>.+?</answer>\s*", re.DOTALL)

# "B", "(B)", "B.", "B) a red car", "B: a red car"; not "A red car", where A is an article.
_LETTER_FIRST = re.compile(r"\(?([A-Za-z])(?:\)|[.:,](?=\s|$)|$)")
# "Answer: B", "the answer is (B)."
_LETTER_NAMED = re.compile(r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*\(?([A-Z])\b", re.IGNORECASE)

_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)\.\d*|(?<!\d)\.\d+)?(?<=[\d.])(?:[eE][-+]?\d+)?"
)
# As many digits as a float holds: a model may write thousands.
_FRACTION = re.compile(r"([-+]?\d{1,15})\s*/\s*(\d{1,15})")


def tagged_answer(text: str) -> str | None:
    """The text between the last pair of `<answer>` tags, stripped; None without such a pair."""
    found = ANSWER_TAG.findall(text)
    return found[-1].strip() if found else None


def read_answer(completion: str, solution: str) -> tuple[str | None, str]:
    """The given and the right answer as bare texts.

    A solution in tags means that the prompt asked for tags: then a completion without them has no answer.

    Args:
        completion: what the model wrote.
        solution: the row's solution, with or without tags.

    Returns:
        The answer given (None where the tags are missing) and the right one.
    """
    right = tagged_answer(solution)
    if right is None:
        return completion.strip(), solution.strip()
    return tagged_answer(completion), right


def choice_letter(answer: str) -> str | None:
    """The option's letter, in upper case; None where the answer names no option or more than one."""
    answer = answer.strip()
    found = _LETTER_FIRST.match(answer)
    if found:
        return found[1].upper()
    named = {letter.upper() for letter in _LETTER_NAMED.findall(answer)}
    return named.pop() if len(named) == 1 else None


def number(answer: str) -> float | None:
    """The one number in an answer; None where there is none or several.

    Understands thousands separators (1,234), fractions (3/4), exponents and what may stand around a number ($5, 42 %,
    42 cm).
    """
    fraction = _FRACTION.fullmatch(answer.strip())
    if fraction:
        return int(fraction[1]) / int(fraction[2]) if int(fraction[2]) else None
    found = {float(text.replace(",", "")) for text in _numbers(answer)}
    return found.pop() if len(found) == 1 else None


def _numbers(text: str) -> list[str]:
    return [found for found in _NUMBER.findall(text) if any(character.isdigit() for character in found)]
