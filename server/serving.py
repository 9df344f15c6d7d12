"""vLLM's serving classes with `sparsity_p` in their requests and `usage.sparsity` in their responses.

Only their public `create_*` methods are wrapped; /v1/responses needs two hooks more, because it starts the engine and
counts usage inside its own generators.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from fastapi import Request
from starlette.datastructures import State
from vllm.entrypoints.openai.chat_completion.batch_serving import OpenAIServingChatBatch
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest, ResponsesResponse
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from server.access.callers import settings_of_caller
from server.access.isolation import Owners
from server.aliases import AliasedModels, alias_of
from server.exchange import Exchange, current_exchange, entered, stream_within
from server.limits.background import limit_background
from server.limits.fields import refuse_unknown_sparsity_fields
from server.limits.requests import check_request
from server.limits.templates import refuse_tokenizer_arguments
from server.limits.texts import LimitedMessages, LimitedTokenization, check_text
from server.media.identity import refuse_media_uuids
from server.protocol import requested_sparsity_p
from server.record import current_record
from server.request_ids import refuse_chosen_response_id, settle_request_id
from server.settings import ServerSettings
from server.usage import add_to_response, add_to_stream
from server.vllm_hooks import become


def extend_serving(state: State, settings: ServerSettings) -> None:
    """Make the serving objects that `init_app_state` built ours.

    They take about twenty arguments each from vLLM; becoming a subclass keeps every one of them.
    """
    for name, subclass in {
        "openai_serving_chat": SparseChat,
        "openai_serving_chat_batch": SparseChatBatch,
        "openai_serving_completion": SparseCompletion,
        "openai_serving_responses": SparseResponses,
        "anthropic_serving_messages": LimitedMessages,
        "serving_tokenization": LimitedTokenization,
    }.items():
        serving = getattr(state, name)
        become(serving, subclass)
        serving.settings = settings
    state.openai_serving_responses.owners = Owners()
    become(state.openai_serving_models, AliasedModels)


async def _answer(
    create: Callable[[Any, Request | None], Awaitable[Any]],
    request: Any,
    raw_request: Request | None,
    exchange: Exchange,
) -> Any:
    """Run vLLM's `create_*` for one request and write what pruning saved into its answer."""
    with entered(exchange):
        answer = await create(request, raw_request)
    if isinstance(answer, AsyncGenerator):
        return add_to_stream(stream_within(exchange, answer), exchange)
    add_to_response(answer, exchange)
    return answer


def _exchange_of(request: Any, models: OpenAIServingModels, settings: ServerSettings) -> Exchange:
    """What a request asks for; an alias in it gives way to the model that it stands for.

    Raises:
        RequestRefused: the request's `sparsity_p` breaks a rule, it names its media, or it asks for too much.
    """
    settings = settings_of_caller(settings)
    refuse_unknown_sparsity_fields(request)
    check_request(request, settings.limits)
    check_text(request, settings.limits)
    refuse_tokenizer_arguments(request)
    if not settings.media.allow_media_uuids:
        refuse_media_uuids(request)
    alias = alias_of(request.model, models, settings)
    exchange = Exchange(
        sparsity_p=requested_sparsity_p(request, settings, alias.sparsity_p if alias else None),
        alias=alias.asked if alias else None,
        collects_reports=not getattr(request, "use_beam_search", False),
    )
    _record(request, exchange)
    if alias is not None:
        request.model = alias.model
    return exchange


def _record(request: Any, exchange: Exchange) -> None:
    """For the access log."""
    record = current_record()
    if record is not None:
        record.model, record.exchange = request.model, exchange


class SparseChat(OpenAIServingChat):
    """/v1/chat/completions"""

    settings: ServerSettings

    async def create_chat_completion(self, request: Any, raw_request: Request | None = None) -> Any:
        settle_request_id(request)
        exchange = _exchange_of(request, self.models, self.settings)
        return await _answer(super().create_chat_completion, request, raw_request, exchange)


class SparseChatBatch(OpenAIServingChatBatch):
    """/v1/chat/completions/batch"""

    settings: ServerSettings

    async def create_batch_chat_completion(self, request: Any, raw_request: Request | None = None) -> Any:
        settle_request_id(request)
        exchange = _exchange_of(request, self.models, self.settings)
        return await _answer(super().create_batch_chat_completion, request, raw_request, exchange)


class SparseCompletion(OpenAIServingCompletion):
    """/v1/completions"""

    settings: ServerSettings

    async def create_completion(self, request: Any, raw_request: Request | None = None) -> Any:
        settle_request_id(request)
        exchange = _exchange_of(request, self.models, self.settings)
        return await _answer(super().create_completion, request, raw_request, exchange)


class SparseResponses(OpenAIServingResponses):
    """/v1/responses"""

    settings: ServerSettings
    owners: Owners

    async def create_responses(self, request: ResponsesRequest, raw_request: Request | None = None) -> Any:
        refuse_chosen_response_id(request)
        if request.previous_response_id is not None and not self.owners.may_see(request.previous_response_id):
            return self._make_not_found_error(request.previous_response_id)
        exchange = _exchange_of(request, self.models, self.settings)
        if request.store and self.enable_store:
            self.owners.note(request.request_id)
        with entered(exchange):
            answer = await super().create_responses(request, raw_request)
        limit_background(self, request.request_id, self.settings.limits.max_request_s)
        return stream_within(exchange, answer) if isinstance(answer, AsyncGenerator) else answer

    async def retrieve_responses(self, response_id: str, *args: Any, **kwargs: Any) -> Any:
        if not self.owners.may_see(response_id):
            return self._make_not_found_error(response_id)
        return await super().retrieve_responses(response_id, *args, **kwargs)

    async def cancel_responses(self, response_id: str) -> ErrorResponse | ResponsesResponse:
        if not self.owners.may_see(response_id):
            return self._make_not_found_error(response_id)
        return await super().cancel_responses(response_id)

    def _validate_generator_input(self, engine_input: Any) -> ErrorResponse | None:
        """vLLM's place for checks of the finished prompt; its own call of `generate` comes after a stream began."""
        exchange = current_exchange()
        if exchange is not None:
            self.engine_client.check_prompt(engine_input, exchange.sparsity_p)
        return super()._validate_generator_input(engine_input)

    async def responses_full_generator(self, *args: Any, **kwargs: Any) -> ErrorResponse | ResponsesResponse:
        """Builds the response of plain requests, of background ones and of the event `response.completed`."""
        response = await super().responses_full_generator(*args, **kwargs)
        exchange = current_exchange()
        if exchange is not None:
            add_to_response(response, exchange)
        return response
