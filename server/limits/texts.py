"""The length of a request's text: tokenizing takes long, and vLLM does it before it looks at the limit where a request
asks to be truncated, and without any limit where tokens are only counted.
"""

from typing import Any

from fastapi import Request
from pydantic import BaseModel
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.serve.tokenize.serving import ServingTokenization

from server.errors import RequestRefused
from server.limits.settings import RequestLimits
from server.limits.templates import refuse_tokenizer_arguments
from server.media.identity import refuse_media_uuids
from server.settings import ServerSettings

# Where the parts of a conversation stand, and the fields of a part that hold media, whose size has limits of its own.
# Elsewhere, in `tools` for one, these names mean nothing, and what they hold becomes text of the prompt.
CONVERSATIONS = frozenset({"messages", "input"})
MEDIA_FIELDS = frozenset({"url", "image_url", "video_url", "audio_url", "data", "file_data"})


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
    return sum(_num_chars_within(value, name in CONVERSATIONS) for name, value in _fields(request))


def _num_chars_within(value: Any, may_hold_media: bool) -> int:
    pending, num_chars = [value], 0
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            num_chars += len(item)
        elif isinstance(item, BaseModel | dict):
            pending += [value for name, value in _fields(item) if not (may_hold_media and _is_media(name, value))]
        elif isinstance(item, list):
            if item and isinstance(item[0], int):
                num_chars += len(item)
            else:
                pending += item
    return num_chars


def _fields(item: BaseModel | dict[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(item, dict):
        return list(item.items())
    return [*vars(item).items(), *(item.model_extra or {}).items()]


def _is_media(name: str, value: Any) -> bool:
    return name in MEDIA_FIELDS and isinstance(value, str)


class LimitedMessages(AnthropicServingMessages):
    """/v1/messages and /v1/messages/count_tokens"""

    settings: ServerSettings

    async def create_messages(self, request: Any, raw_request: Request | None = None) -> Any:
        check_text(request, self.settings.limits)
        refuse_tokenizer_arguments(request)
        return await super().create_messages(request, raw_request)

    async def count_tokens(self, request: Any, raw_request: Request | None = None) -> Any:
        check_text(request, self.settings.limits)
        refuse_tokenizer_arguments(request)
        return await super().count_tokens(request, raw_request)


class LimitedTokenization(ServingTokenization):
    """/tokenize and /detokenize"""

    settings: ServerSettings

    async def create_tokenize(self, request: Any, raw_request: Request) -> Any:
        check_text(request, self.settings.limits)
        refuse_tokenizer_arguments(request)
        # Pictures are processed to count their tokens, and may stay in a cache under their names.
        if not self.settings.media.allow_media_uuids:
            refuse_media_uuids(request)
        return await super().create_tokenize(request, raw_request)

    async def create_detokenize(self, request: Any, raw_request: Request) -> Any:
        check_text(request, self.settings.limits)
        return await super().create_detokenize(request, raw_request)
