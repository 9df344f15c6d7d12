"""Names that requests give to media: vLLM's caches take such a `uuid` for the content, so strangers must not choose it.

Whoever names a picture like one of another client (a content hash can be computed by all who have the picture) makes
the engine answer the other's question about the wrong picture, from the encoder's cache or the prefix cache.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from server.errors import RequestRefused

FIELD = "uuid"


def refuse_media_uuids(request: BaseModel) -> None:
    """Refuse a request that names its media.

    Args:
        request: one of vLLM's request models.

    Raises:
        RequestRefused: a part of its content has a `uuid`.
    """
    for message in _messages(request):
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            value = _fields(part).get(FIELD)
            if value is not None:
                raise RequestRefused(
                    f"{FIELD} is {str(value)[:80]!r}, but clients may not name media: caches would take the name for "
                    "the content. Leave it out, or start the server with --allow-media-uuids.",
                    param=FIELD,
                )


def _messages(request: BaseModel) -> Iterator[dict[str, Any]]:
    """Those of a chat, of a batch of chats, and the items of a Responses request."""
    for field in ("messages", "input"):
        items = getattr(request, field, None)
        for item in items if isinstance(items, list) else ():
            for message in item if isinstance(item, list) else (item,):
                yield _fields(message)


def _fields(item: Any) -> dict[str, Any]:
    if isinstance(item, BaseModel):
        return {**item.__dict__, **(item.model_extra or {})}
    return item if isinstance(item, dict) else {}
