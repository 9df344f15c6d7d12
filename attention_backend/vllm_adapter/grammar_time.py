"""A limit on the time that one request's grammar may take in the scheduler's thread.

vLLM limits how long a regular expression compiles. But some that compile at once, such as `(((a*)*)*)*`, make every
further token cost twice as much to check, and while one request's grammar is checked no other request gets a token.
"""

import time
from typing import Any

from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar

# Grammars of real schemas take far less than a millisecond for a token.
GRACE_S = 0.5
PER_TOKEN_S = 0.02
# `stop_reason` of a request that its grammar ended, beside finish reason `error`.
GRAMMAR_TOO_SLOW = "winnow_grammar_too_slow"
GRAMMAR_STUCK = "winnow_grammar_stuck"


class TimedGrammar(StructuredOutputGrammar):
    """A request's grammar that rejects further tokens when its time is over; vLLM then ends the request.

    It also says when a grammar, such as `root ::= root`, left no token to choose from and rejects what was chosen.

    Args:
        grammar: of one of vLLM's backends.

    Attributes:
        stop_reason: why it rejected tokens; None while it did not. It has no reference to the request, which has one
            to the grammar: a circle would keep the request's pictures until Python looks for circles.
    """

    def __init__(self, grammar: StructuredOutputGrammar) -> None:
        self.stop_reason: str | None = None
        self._grammar = grammar
        self._num_tokens = 0
        self._spent_s = 0.0

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        self._num_tokens += len(tokens)
        is_accepted = self._timed(self._grammar.accept_tokens, request_id, tokens)
        is_in_time = self._spent_s <= GRACE_S + PER_TOKEN_S * self._num_tokens
        if not is_accepted or not is_in_time:
            self.stop_reason = GRAMMAR_STUCK if is_in_time else GRAMMAR_TOO_SLOW
        return is_accepted and is_in_time

    def validate_tokens(self, tokens: list[int]) -> list[int]:
        return self._timed(self._grammar.validate_tokens, tokens)

    def rollback(self, num_tokens: int) -> None:
        self._timed(self._grammar.rollback, num_tokens)

    def fill_bitmask(self, bitmask: Any, batch_index: int) -> None:
        self._timed(self._grammar.fill_bitmask, bitmask, batch_index)

    def is_terminated(self) -> bool:
        return self._grammar.is_terminated()

    def reset(self) -> None:
        self._grammar.reset()

    def _timed(self, call: Any, *args: Any) -> Any:
        # Of this thread alone, so that a busy machine ends no request.
        start_s = time.thread_time()
        try:
            return call(*args)
        finally:
            self._spent_s += time.thread_time() - start_s


class TimedGrammars(StructuredOutputManager):
    """vLLM's manager of grammars, with a limit on the time of each."""

    @classmethod
    def take_over(cls, manager: StructuredOutputManager) -> None:
        """Turn the manager that vLLM's engine built into this one, which adds no state of its own."""
        assert type(manager) is StructuredOutputManager
        manager.__class__ = cls

    def _create_grammar(self, request: Request) -> StructuredOutputGrammar:
        return TimedGrammar(super()._create_grammar(request))

    def accept_tokens(self, request: Request, new_token_ids: list[int]) -> bool:
        is_accepted = super().accept_tokens(request, new_token_ids)
        if not is_accepted:
            request.stop_reason = request.structured_output_request.grammar.stop_reason
        return is_accepted
