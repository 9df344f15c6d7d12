"""What `chat_template_kwargs` may hold."""

import pytest
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest
from vllm.renderers.hf import _get_hf_base_chat_template_params

from server.errors import RequestRefused
from server.limits.templates import OF_THE_TOKENIZER, refuse_tokenizer_arguments

MESSAGES = [{"role": "user", "content": "x"}]
# What transformers' `apply_chat_template` takes beside the tokenizer's: harmless, or refused by vLLM.
OF_THE_TEMPLATE = {
    "self", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "continue_final_message",
}  # fmt: skip


@pytest.mark.parametrize("name", OF_THE_TOKENIZER)
@pytest.mark.parametrize(
    "make",
    [
        lambda **fields: ChatCompletionRequest(messages=MESSAGES, **fields),
        lambda **fields: ResponsesRequest(input="x", **fields),
        lambda **fields: AnthropicMessagesRequest(model="m", max_tokens=1, messages=MESSAGES, **fields),
        lambda **fields: TokenizeChatRequest(messages=MESSAGES, **fields),
    ],
    ids=["chat", "responses", "messages", "tokenize"],
)
def test_arguments_of_the_tokenizer_are_refused(make, name):
    refuse_tokenizer_arguments(make())
    refuse_tokenizer_arguments(make(chat_template_kwargs={"enable_thinking": False}))
    with pytest.raises(
        RequestRefused, match=f"chat_template_kwargs holds {name}, but that is an argument of"
    ) as refused:
        refuse_tokenizer_arguments(make(chat_template_kwargs={"enable_thinking": False, name: None}))
    assert refused.value.parameter == "chat_template_kwargs"


def test_requests_without_templates_pass():
    refuse_tokenizer_arguments(CompletionRequest(prompt="x"))


def test_transformers_takes_no_others():
    assert _get_hf_base_chat_template_params() == OF_THE_TEMPLATE | set(OF_THE_TOKENIZER)
