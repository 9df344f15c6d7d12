"""The serving classes without an engine: which objects are extended, and checks before a stream begins."""

from types import SimpleNamespace

import pytest
from vllm.entrypoints.openai.chat_completion.batch_serving import OpenAIServingChatBatch
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses

from attention_backend import UnsupportedConfiguration
from server.errors import RequestRefused
from server.exchange import Exchange, entered
from server.serving import SparseChat, SparseChatBatch, SparseCompletion, SparseResponses, extend_serving
from server.settings import ServerSettings

EXTENDED = {
    "openai_serving_chat": (OpenAIServingChat, SparseChat),
    "openai_serving_chat_batch": (OpenAIServingChatBatch, SparseChatBatch),
    "openai_serving_completion": (OpenAIServingCompletion, SparseCompletion),
    "openai_serving_responses": (OpenAIServingResponses, SparseResponses),
}


def test_every_route_with_the_field_is_extended():
    settings = ServerSettings()
    state = SimpleNamespace(**{name: object.__new__(base) for name, (base, _) in EXTENDED.items()})
    extend_serving(state, settings)
    for name, (_, ours) in EXTENDED.items():
        assert type(getattr(state, name)) is ours
        assert getattr(state, name).settings is settings


def test_a_model_that_does_not_generate_is_refused():
    with pytest.raises(UnsupportedConfiguration, match="vLLM uses NoneType"):
        extend_serving(SimpleNamespace(**dict.fromkeys(EXTENDED)), ServerSettings())


@pytest.fixture
def responses(monkeypatch) -> SparseResponses:
    """Behind it an engine that refuses every sparse prompt, and vLLM's own check that passes."""

    def refuse_partial_prefill(prompt, sparsity_p):
        raise RequestRefused("too long", param="sparsity_p")

    monkeypatch.setattr(OpenAIServingResponses, "_validate_generator_input", lambda self, engine_input: None)
    serving = object.__new__(SparseResponses)
    serving.engine_client = SimpleNamespace(refuse_partial_prefill=refuse_partial_prefill)
    return serving


def test_responses_check_the_prompt_before_their_stream_begins(responses):
    with entered(Exchange(0.9)), pytest.raises(RequestRefused, match="too long"):
        responses._validate_generator_input({})


def test_dense_responses_are_not_checked(responses):
    with entered(Exchange(1.0)):
        assert responses._validate_generator_input({}) is None
