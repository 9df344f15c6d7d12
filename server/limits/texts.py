"""The length of a request's text: tokenizing takes long, and vLLM does it before it looks at the limit where a request
asks to be truncated, and on /tokenize without any limit.
"""

from typing import Any

from fastapi import Request
from pydantic import BaseModel
from vllm.entrypoints.serve.tokenize.serving import ServingTokenization

from server.errors import RequestRefused
from server.limits.settings import RequestLimits
from server.settings import ServerSettings

# Media; its size has limits of its own.
MEDIA_PREFIX = "data:"


def check_text(request: BaseModel, limits: RequestLimits) -> None:
    """Refuse a request with too much text.

    Args:
        request: one of vLLM's request models.
        limits: the operator's.

    Raises:
        RequestRefused: all its text together, tokens counted like characters, is longer than the operator allows.
    """
    num_chars = _num_chars(request)
    if num_chars > limits.max_text_chars:
        raise RequestRefused(
            f"The request has {num_chars} characters of text, but may have {limits.max_text_chars}. Shorten it, or "
            "raise --max-text-chars.",
            param="prompt",
        )


def _num_chars(request: BaseModel) -> int:
    pending: list[Any] = [request]
    num_chars = 0
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            num_chars += 0 if item.startswith(MEDIA_PREFIX) else len(item)
        elif isinstance(item, BaseModel):
            pending += [*vars(item).values(), *(item.model_extra or {}).values()]
        elif isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list):
            if item and isinstance(item[0], int):
                num_chars += len(item)
            else:
                pending += item
    return num_chars


class LimitedTokenization(ServingTokenization):
    """/tokenize and /detokenize"""

    settings: ServerSettings

    async def create_tokenize(self, request: Any, raw_request: Request) -> Any:
        check_text(request, self.settings.limits)
        return await super().create_tokenize(request, raw_request)

    async def create_detokenize(self, request: Any, raw_request: Request) -> Any:
        check_text(request, self.settings.limits)
        return await super().create_detokenize(request, raw_request)
