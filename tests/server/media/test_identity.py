"""Media that a request names: refused in every place where a name can stand."""

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from server.errors import RequestRefused
from server.media.identity import refuse_media_uuids

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
INPUT = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}


def chat(*parts: dict) -> ChatCompletionRequest:
    return ChatCompletionRequest(model="m", messages=[{"role": "user", "content": list(parts)}])


def responses(*parts: dict) -> ResponsesRequest:
    return ResponsesRequest(model="m", input=[{"role": "user", "content": list(parts)}])


@pytest.mark.parametrize("request_", [chat(PICTURE), chat({**PICTURE, "uuid": None}), responses(INPUT)])
def test_without_a_name(request_):
    refuse_media_uuids(request_)


@pytest.mark.parametrize(
    "request_",
    [
        chat({**PICTURE, "uuid": "a"}),
        chat(PICTURE, {**PICTURE, "uuid": "a"}),
        chat({"type": "image_url", "image_url": None, "uuid": "a"}),
        chat({"type": "image_pil", "uuid": "a"}),
        responses({**INPUT, "uuid": "a"}),
    ],
    ids=["picture", "second-picture", "name-only", "other-kind", "responses"],
)
def test_with_a_name(request_):
    with pytest.raises(RequestRefused, match="--allow-media-uuids") as refusal:
        refuse_media_uuids(request_)
    assert refusal.value.parameter == "uuid"
