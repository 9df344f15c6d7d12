"""Limits on what a request asks for: checked on vLLM's request models, and again on what reaches the engine.

The first check names the request's own fields and comes before anything is rendered. The second one stands where
requests of all routes pass, so that a route without the first is limited too.
"""

import copy
from collections.abc import Sized
from typing import Any

from pydantic import BaseModel
from vllm.sampling_params import SamplingParams

from server.errors import RequestRefused
from server.flags import flag
from server.limits.settings import RequestLimits
from server.limits.structures import check_structure

# As many characters of a stop string are held back from every stream.
MAX_STOP_CHARS = 1024

_LISTS = ("stop_token_ids", "allowed_token_ids", "logprob_token_ids", "bad_words", "logit_bias")
_OUTPUT_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens")


def check_request(request: BaseModel, limits: RequestLimits) -> None:
    """Refuse a request that asks for too much.

    Args:
        request: one of vLLM's request models.
        limits: the operator's.

    Raises:
        RequestRefused: it breaks a limit.
    """
    num_prompts, n = _num_prompts(request), getattr(request, "n", None) or 1
    if num_prompts * n > limits.max_sequences:
        raise RequestRefused(
            f"n is {n} and the request has {num_prompts} prompt(s), but one request may ask for "
            f"{limits.max_sequences} sequences. Ask for fewer, or raise --max-sequences.",
            param="n" if n > 1 else "prompt",
        )
    # Not as attributes: reading one that OpenAI deprecates warns.
    fields = vars(request)
    for name in _OUTPUT_FIELDS:
        _check_output_tokens(name, fields.get(name), limits)
    _check_lists(request, limits)


def limited(sampling_params: SamplingParams, limits: RequestLimits, *, is_checked: bool) -> SamplingParams:
    """Sampling parameters within the limits.

    Args:
        sampling_params: left as they are.
        limits: the operator's.
        is_checked: whether the request passed `check_request`. Then `max_tokens` above the limit is not its own
            wish but all that the context has left, and the limit takes its place.

    Raises:
        RequestRefused: they break a limit.
    """
    if sampling_params.n > limits.max_sequences:
        raise RequestRefused(
            f"n is {sampling_params.n}, but one request may ask for {limits.max_sequences} sequences. "
            "Ask for fewer, or raise --max-sequences.",
            param="n",
        )
    _check_lists(sampling_params, limits)
    check_structure(sampling_params.structured_outputs, limits)
    if not limits.max_output_tokens or (sampling_params.max_tokens or 0) <= limits.max_output_tokens:
        return sampling_params
    if not is_checked:
        _check_output_tokens("max_tokens", sampling_params.max_tokens, limits)
    sampling_params = copy.copy(sampling_params)
    sampling_params.max_tokens = limits.max_output_tokens
    return sampling_params


def check_prompt_tokens(num_prompt_tokens: int, limits: RequestLimits) -> None:
    """Refuse a prompt that is too long.

    Raises:
        RequestRefused: it has more tokens than the operator allows.
    """
    if limits.max_prompt_tokens and num_prompt_tokens > limits.max_prompt_tokens:
        raise RequestRefused(
            f"The prompt has {num_prompt_tokens} tokens, pictures included, but may have {limits.max_prompt_tokens}. "
            "Shorten it, or raise --max-prompt-tokens.",
            param="prompt",
        )


def _num_prompts(request: BaseModel) -> int:
    """Prompts of a completion request, conversations of a batch; token ids are one prompt."""
    prompts = getattr(request, "prompt", None)
    embeds = getattr(request, "prompt_embeds", None)
    messages = getattr(request, "messages", None)
    num_prompts = 0
    if isinstance(prompts, list) and prompts:
        num_prompts += 1 if isinstance(prompts[0], int) else len(prompts)
    if isinstance(embeds, list):
        num_prompts += len(embeds)
    if isinstance(messages, list) and messages and isinstance(messages[0], list):
        num_prompts += len(messages)
    return max(num_prompts, 1)


def _check_output_tokens(name: str, value: int | None, limits: RequestLimits) -> None:
    if limits.max_output_tokens and value is not None and value > limits.max_output_tokens:
        raise RequestRefused(
            f"{name} is {value}, but an answer may have {limits.max_output_tokens} tokens. "
            "Ask for fewer, or raise --max-output-tokens.",
            param=name,
        )


def _check_lists(holder: Any, limits: RequestLimits) -> None:
    for name in _LISTS:
        value = getattr(holder, name, None)
        if isinstance(value, Sized) and len(value) > limits.max_list_items:
            raise RequestRefused(
                f"{name} has {len(value)} entries, but may have {limits.max_list_items}. "
                f"Send fewer, or raise {flag('max_list_items')}.",
                param=name,
            )
    stops = getattr(holder, "stop", None) or ()
    longest = max((len(stop) for stop in ([stops] if isinstance(stops, str) else stops)), default=0)
    if longest > MAX_STOP_CHARS:
        raise RequestRefused(
            f"stop has a string of {longest} characters, but may have {MAX_STOP_CHARS}. Send shorter ones.",
            param="stop",
        )
