"""How much text a request has, wherever it stands."""

import pytest
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.tokenize.protocol import DetokenizeRequest, TokenizeCompletionRequest

from server.errors import RequestRefused
from server.limits.settings import RequestLimits
from server.limits.texts import check_text

DATA = "A" * 10_000
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}
SOUND = {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}
ANTHROPIC_PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}


def chat(text: str) -> ChatCompletionRequest:
    return ChatCompletionRequest(
        messages=[{"role": "user", "content": [PICTURE, SOUND, {"type": "text", "text": text}]}]
    )


def message(text: str) -> AnthropicMessagesRequest:
    content = [ANTHROPIC_PICTURE, {"type": "text", "text": text}]
    return AnthropicMessagesRequest(model="m", max_tokens=1, messages=[{"role": "user", "content": content}])


def disguised(text: str) -> ChatCompletionRequest:
    """Text that begins like a picture."""
    return chat("data:" + text[5:])


def disguised_in_a_tool(text: str) -> ChatCompletionRequest:
    """A field called like that of a picture, which a chat template writes into the prompt."""
    function = {"name": "f", "parameters": {"url": "data:" + text[5:]}}
    return ChatCompletionRequest(
        messages=[{"role": "user", "content": "x"}], tools=[{"type": "function", "function": function}]
    )


def tool(text: str) -> ChatCompletionRequest:
    function = {"name": "f", "description": text, "parameters": {}}
    return ChatCompletionRequest(
        messages=[{"role": "user", "content": "x"}], tools=[{"type": "function", "function": function}]
    )


@pytest.mark.parametrize(
    "make",
    [
        chat,
        message,
        disguised,
        disguised_in_a_tool,
        tool,
        lambda text: CompletionRequest(prompt=text),
        lambda text: CompletionRequest(prompt=[text[:300], text[300:]]),
        lambda text: CompletionRequest(prompt=[5] * len(text)),
        lambda text: CompletionRequest(prompt=[[5] * 300, [5] * (len(text) - 300)]),
        lambda text: ResponsesRequest(input=text),
        lambda text: ResponsesRequest(input="x", instructions=text),
        lambda text: ResponsesRequest(input=[{"role": "user", "content": [{"type": "input_text", "text": text}]}]),
        lambda text: TokenizeCompletionRequest(prompt=text),
        lambda text: DetokenizeRequest(tokens=[5] * len(text)),
    ],
)
def test_all_text_counts_and_media_does_not(make):
    limits = RequestLimits(max_text_chars=1000)
    check_text(make("x" * 700), limits)
    with pytest.raises(RequestRefused, match=r"has 1\d\d\d characters of text, but may have 1000\. Shorten it"):
        check_text(make("x" * 1001), limits)
