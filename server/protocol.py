"""The HTTP contract: the field `sparsity_p` of a request and the object `usage.sparsity` of a response.

vLLM's request models let unknown fields through (`extra="allow"`), and so do its usage models. Both are extended here
rather than replaced.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from attention_backend import SPARSITY_P, InvalidSparsityP, check_sparsity_p
from server.errors import RequestRefused
from server.settings import ServerSettings

# Of `vllm_xargs`: vLLM reads the second one there without a look at its type.
RESERVED = (SPARSITY_P, "kv_transfer_params")
# Longest part of a refused value that an error message repeats.
MAX_VALUE_CHARS = 80


class SparsityUsage(BaseModel):
    """`usage.sparsity` of a response.

    Attributes:
        sparsity_p: the value the request ran with.
        selection: the engine's selection mode.
        token_ratio: (|m_Q| + |m_K|) / (2 L) over layers; 1 when dense.
        kv_ratio: KV kept for the prompt / KV of the dense prompt.
        kept_tokens_per_layer: prompt tokens whose keys and values stayed, by layer.
        ranking: the baseline that the server runs for a benchmark (`--ranking`); left out otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sparsity_p: float
    selection: str
    token_ratio: float
    kv_ratio: float
    kept_tokens_per_layer: list[int]
    ranking: str | None = None

    def fields(self) -> dict[str, Any]:
        """The object as responses show it."""
        return self.model_dump(exclude_none=True)


def requested_sparsity_p(request: BaseModel, settings: ServerSettings, by_alias: float | None = None) -> float:
    """The `sparsity_p` that this request runs with.

    Args:
        request: one of vLLM's request models.
        settings: the server's default and bounds.
        by_alias: the checked value that its `model` chooses, if any.

    Raises:
        RequestRefused: the value breaks a rule, or the request asks for something that cannot be sparse.
    """
    for name in RESERVED:
        if name in (getattr(request, "vllm_xargs", None) or {}):
            raise RequestRefused(
                f"vllm_xargs holds {name}, but it is a field of the request itself. Move it to the top level.",
                param="vllm_xargs",
            )
    value = (request.model_extra or {}).get(SPARSITY_P)
    default = settings.sparsity_p if by_alias is None else by_alias
    sparsity_p = default if value is None else checked(value, settings)
    if by_alias is not None and sparsity_p != by_alias:
        raise RequestRefused(
            f"sparsity_p is {sparsity_p} and model is {_shortened(repr(request.model))}, but a request runs with one "
            "sparsity_p. Leave one of them out, or let them agree.",
            param=SPARSITY_P,
        )
    if sparsity_p < 1.0 and getattr(request, "use_beam_search", False):
        raise RequestRefused(
            f"use_beam_search is true and sparsity_p is {sparsity_p}, but beam search prefills anew for every token "
            "and would select anew each time. Send sparsity_p = 1 or leave use_beam_search out.",
            param=SPARSITY_P,
        )
    return sparsity_p


def checked(value: Any, settings: ServerSettings, param: str = SPARSITY_P) -> float:
    """`value` as a float within the operator's bounds.

    Args:
        value: what the request holds.
        settings: the server's bounds.
        param: the request field that holds it.

    Raises:
        RequestRefused: it breaks a rule; the message names field, value, rule and remedy.
    """
    try:
        return check_sparsity_p(value, minimum=settings.min_sparsity_p, maximum=settings.max_sparsity_p)
    except InvalidSparsityP as error:
        message = str(error).replace(repr(value), _shortened(repr(value)))
        raise RequestRefused(message, param=param) from error


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."
