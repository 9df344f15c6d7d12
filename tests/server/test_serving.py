"""The serving classes without an engine: which objects are extended, and checks before a stream begins."""

import asyncio
from types import SimpleNamespace

import pytest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.openai.chat_completion.batch_serving import OpenAIServingChatBatch
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses
from vllm.entrypoints.serve.tokenize.serving import ServingTokenization

from attention_backend import UnsupportedConfiguration
from server.aliases import AliasedModels
from server.errors import RequestRefused
from server.exchange import Exchange, current_exchange, entered
from server.limits.texts import LimitedMessages, LimitedTokenization
from server.serving import SparseChat, SparseChatBatch, SparseCompletion, SparseResponses, extend_serving
from server.settings import ServerSettings

EXTENDED = {
    "openai_serving_chat": (OpenAIServingChat, SparseChat),
    "openai_serving_chat_batch": (OpenAIServingChatBatch, SparseChatBatch),
    "openai_serving_completion": (OpenAIServingCompletion, SparseCompletion),
    "openai_serving_responses": (OpenAIServingResponses, SparseResponses),
    "anthropic_serving_messages": (AnthropicServingMessages, LimitedMessages),
    "serving_tokenization": (ServingTokenization, LimitedTokenization),
}


def test_every_route_that_reads_our_fields_or_has_our_limits_is_extended():
    settings = ServerSettings()
    state = SimpleNamespace(**{name: object.__new__(base) for name, (base, _) in EXTENDED.items()})
    state.openai_serving_models = object.__new__(OpenAIServingModels)
    extend_serving(state, settings)
    assert type(state.openai_serving_models) is AliasedModels
    for name, (_, ours) in EXTENDED.items():
        assert type(getattr(state, name)) is ours
        assert getattr(state, name).settings is settings


def test_a_model_that_does_not_generate_is_refused():
    with pytest.raises(UnsupportedConfiguration, match="vLLM uses NoneType"):
        extend_serving(SimpleNamespace(**dict.fromkeys(EXTENDED)), ServerSettings())


@pytest.mark.parametrize(
    ("asked", "reaches_vllm", "sparsity_p", "alias"),
    [
        ("demo@p=0.6", "demo", 0.6, "demo@p=0.6"),
        ("cats@p=0.6", "cats", 0.6, "cats@p=0.6"),
        ("dogs@p=0.6", "dogs@p=0.6", 0.8, None),
        ("nobody@p=0.6", "nobody@p=0.6", 0.8, None),
        (None, None, 0.8, None),
    ],
)
def test_vllm_sees_the_model_that_an_alias_stands_for(monkeypatch, asked, reaches_vllm, sparsity_p, alias):
    async def create_completion(self, request, raw_request):
        exchange = current_exchange()
        return SimpleNamespace(seen=(request.model, exchange.sparsity_p, exchange.alias))

    monkeypatch.setattr(OpenAIServingCompletion, "create_completion", create_completion)
    serving = object.__new__(SparseCompletion)
    serving.settings = ServerSettings(sparsity_p=0.8)
    adapters = {"cats": None, "dogs@p=0.6": None}
    serving.models = SimpleNamespace(is_base_model=lambda name: name == "demo", lora_requests=adapters)
    answer = asyncio.run(serving.create_completion(CompletionRequest(model=asked, prompt="hello")))
    assert answer.seen == (reaches_vllm, sparsity_p, alias)


@pytest.fixture
def responses(monkeypatch) -> SparseResponses:
    """Behind it an engine that refuses every sparse prompt, and vLLM's own check that passes."""

    def check_prompt(prompt, sparsity_p):
        if sparsity_p < 1.0:
            raise RequestRefused("too long", param="sparsity_p")

    monkeypatch.setattr(OpenAIServingResponses, "_validate_generator_input", lambda self, engine_input: None)
    serving = object.__new__(SparseResponses)
    serving.engine_client = SimpleNamespace(check_prompt=check_prompt)
    return serving


def test_responses_check_the_prompt_before_their_stream_begins(responses):
    with entered(Exchange(0.9)), pytest.raises(RequestRefused, match="too long"):
        responses._validate_generator_input({})


def test_dense_responses_are_not_checked(responses):
    with entered(Exchange(1.0)):
        assert responses._validate_generator_input({}) is None
