"""What a PromQL expression reads: its series, the labels it picks them by, and the labels it groups by."""

import re
from typing import NamedTuple

_STRING = r'"(?:[^"\\]|\\.)*"'
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(rf"(?<![\w.])([a-zA-Z_:][\w:]*)(?:\{{((?:[^}}\"]|{_STRING})*)\}})?(\s*\()?")
_MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


class Matcher(NamedTuple):
    """One condition on a label."""

    label: str
    operator: str
    value: str

    def accepts(self, value: str) -> bool:
        is_equal = bool(re.fullmatch(self.value, value)) if "~" in self.operator else self.value == value
        return is_equal != self.operator.startswith("!")


class Selector(NamedTuple):
    """One series name with its conditions."""

    name: str
    matchers: tuple[Matcher, ...]


def selectors(expression: str) -> list[Selector]:
    """The series that an expression reads, in order."""
    text = _RANGE.sub("", _GROUPING.sub(" ", expression))
    found = []
    for name, matchers, call in _NAME.findall(text):
        if not call and name.lower() not in _WORDS:
            parts = (Matcher(label, sign, value[1:-1]) for label, sign, value in _MATCHER.findall(matchers))
            found.append(Selector(name, tuple(parts)))
    return found


def grouping_labels(expression: str) -> set[str]:
    """The labels that aggregations and joins of an expression name."""
    return {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")} - {""}
