"""Whether a greedy answer is the one that the same request got alone.

The rule for ties. Other requests in the batch change the order of float additions, so two logits that are equal but for
rounding may change places. An answer that differs is a tie only if, at the first token that differs, the answer alone
gave both tokens log-probabilities at most `TIE_NATS` apart; what follows that token cannot be compared. What pruning
kept must be equal in every layer, ties included: it is chosen before the first token.
"""

from dataclasses import dataclass
from typing import Any

from benchmarks.soak.replies import Reply

# Float32 rounding does less to a log-probability; two answers that differ in meaning are further apart.
TIE_NATS = 1e-3
TOP_LOGPROBS = 5
# What a request must ask for to be a reference.
REFERENCE_FIELDS = {"logprobs": True, "top_logprobs": TOP_LOGPROBS, "return_tokens_as_token_ids": True}
_TOKEN_PREFIX = "token_id:"


@dataclass(frozen=True, slots=True)
class Reference:
    """The answer to a request that had the server to itself.

    Attributes:
        token_ids: the answer.
        logprobs: for every token, the likeliest tokens with their log-probability.
        kept_tokens_per_layer: what pruning left of the prompt.
        finish_reason: why it ended.
        latency_s: how long it took.
    """

    token_ids: list[int]
    logprobs: list[dict[int, float]]
    kept_tokens_per_layer: list[int]
    finish_reason: str | None
    latency_s: float


def reference_of(reply: Reply) -> Reference:
    """The reference from a whole answer to a request with `REFERENCE_FIELDS`."""
    (choice,) = reply.choices
    content = reply.body["choices"][0]["logprobs"]["content"]
    return Reference(
        token_ids=choice.token_ids,
        logprobs=[
            {
                int(item["token"].removeprefix(_TOKEN_PREFIX)): item["logprob"]
                for item in [token, *token["top_logprobs"]]
            }
            for token in content
        ],
        kept_tokens_per_layer=kept_tokens(reply),
        finish_reason=choice.finish_reason,
        latency_s=reply.latency_s,
    )


def _by_token(items: list[dict[str, Any]]) -> dict[int, float]:
    return {int(item["token"].removeprefix(_TOKEN_PREFIX)): item["logprob"] for item in items}


def kept_tokens(reply: Reply) -> list[int] | None:
    """`kept_tokens_per_layer` of an answer; None where it says nothing."""
    sparsity: dict[str, Any] = (reply.usage or {}).get("sparsity") or {}
    return sparsity.get("kept_tokens_per_layer")


def is_tie(reference: Reference, token_ids: list[int]) -> bool:
    """Whether rounding alone may have made these tokens out of the reference's."""
    for position, (alone, now) in enumerate(zip(reference.token_ids, token_ids, strict=False)):
        if alone != now:
            logprobs = reference.logprobs[position]
            return now in logprobs and logprobs[alone] - logprobs[now] <= TIE_NATS
    return False


def difference(reference: Reference, reply: Reply) -> str | None:
    """What an answer has in other form than the reference; None where it is the same, or a tie."""
    (choice,) = reply.choices
    if (kept := kept_tokens(reply)) != reference.kept_tokens_per_layer:
        return f"kept {kept} tokens of its layers, but {reference.kept_tokens_per_layer} alone"
    if choice.token_ids != reference.token_ids and not is_tie(reference, choice.token_ids):
        return f"generated {choice.token_ids}, but {reference.token_ids} alone"
    if choice.token_ids == reference.token_ids and choice.finish_reason != reference.finish_reason:
        return f"ended with {choice.finish_reason!r}, but {reference.finish_reason!r} alone"
    return None
