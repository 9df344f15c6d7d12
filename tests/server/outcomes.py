"""What a call does with input that may be refused: its value, or the refusal. Any other error is a failure."""

from collections.abc import Callable
from typing import Any, TypeVar

Refusal = TypeVar("Refusal", bound=Exception)


def outcome(
    refusals: type[Refusal] | tuple[type[Refusal], ...], call: Callable[..., Any], *args: Any
) -> tuple[Any, Refusal | None]:
    """The value of `call(*args)` and None, or None and its refusal."""
    try:
        return call(*args), None
    except refusals as refusal:
        return None, refusal


def can_be_sent(text: str) -> bool:
    """Whether a text fits into an answer, which is UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
