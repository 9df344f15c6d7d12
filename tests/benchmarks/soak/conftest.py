"""Replies as a server of the demo model would give them."""

from collections.abc import Callable

import pytest

from benchmarks.soak.answers import Reference
from benchmarks.soak.replies import Reply

KEPT = [30, 50]


@pytest.fixture
def make_reply() -> Callable[..., Reply]:
    """A whole greedy answer of three tokens, with changes."""

    def make(*, choice: dict | None = None, status: int = 200, **body) -> Reply:
        choices = [
            {"index": 0, "message": {"content": "red"}, "token_ids": [5, 6, 7], "finish_reason": "stop"}
            | (choice or {})
        ]
        usage = {"prompt_tokens": 100, "sparsity": {"kept_tokens_per_layer": KEPT}}
        return Reply(1.0, status, {"choices": choices, "usage": usage} | body)

    return make


@pytest.fixture
def reference() -> Reference:
    """Its second token had a rival that is nearly as likely, its third one none."""
    logprobs = [{5: -0.1, 9: -3.0}, {6: -0.69, 8: -0.6905}, {7: -0.2, 8: -1.0}]
    return Reference([5, 6, 7], logprobs, KEPT, "stop", latency_s=0.5)
