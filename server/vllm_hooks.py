"""What this server leans on in vLLM beyond its command line, and the check that it is all there.

| hook | why | goes when |
| --- | --- | --- |
| `AsyncLLM.generate`, `add_request` | the one gate of all routes: checks, `extra_args`, slots for reports | vLLM lets endpoint plugins see engine requests |
| `AsyncLLM.shutdown`, `app.state.server` | requests in flight finish before the engine stops | vLLM's launcher drains HTTP first |
| `OutputProcessor.process_outputs`, `request_states[...].queue` and `.stats` | reports and decode times survive merged outputs | outputs carry custom fields |
| `OutputProcessor.do_tracing` | pruning as attributes of the request's span | traces take attributes of a request |
| `AsyncLLM.errored`, `app.state.server.should_exit` | the process ends when the engine has died | vLLM exits with a status other than 0 |
| `create_*` of the four serving classes, `app.state.openai_serving_*` | the field and `usage.sparsity` | serving classes are pluggable |
| `OpenAIServingResponses._validate_generator_input`, `responses_full_generator` | check before a stream starts; usage of all kinds of responses | as above |
| `OpenAIServingResponses.retrieve_responses`, `cancel_responses`, `background_tasks`, `enable_store` | stored responses are their caller's own; background ones have limits | vLLM's store knows callers |
| `ServingTokenization.create_tokenize`, `create_detokenize`, `AnthropicServingMessages.create_messages`, `count_tokens` | text has a limit | vLLM limits what it tokenizes |
| `InputProcessor._get_mm_identifier` | no caller sees another one's pictures in the encoder's cache | vLLM salts it as it does the prefix cache |
| `ModelField._type_adapter` (FastAPI) | faults in lists are not counted | FastAPI or pydantic bound them |
| `app.router.routes`, `app.middleware_stack`, `Route.app` | most routes are off; layers around vLLM's application | vLLM registers routes by name |
| `HttpToolsProtocol.data_received`, `on_message_begin`, `on_header`, `on_headers_complete`, `on_message_complete`, `on_response_complete` (uvicorn) | heads of requests have limits | uvicorn limits them |
| `OpenAIServingModels.is_base_model`, `model_name`, `lora_requests` | model aliases | vLLM lets names carry defaults of a request |
| `MediaConnector.load_from_url`, `load_from_url_async`, `MEDIA_CONNECTOR_REGISTRY` | one gate for all media | it stays: vLLM's own extension point |
| `ImageMediaIO.load_bytes`, `VideoMediaIO.load_bytes`, `load_base64`, `VideoLoader.read_frames`, `compute_frames_index_to_sample` | limits before decoding | vLLM's limits are options and answered with HTTP 400 |
| `video_decoders.opencv.BytesIO` | no exception gets into OpenCV, which would end the process | OpenCV passes them on |
| `build_app`, `init_app_state`, `serve_http`, `setup_server` | vLLM's launcher with our engine client | `build_and_serve` takes a client factory |
"""  # noqa: E501

import inspect
from collections.abc import Callable
from typing import Any

from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.openai.chat_completion.batch_serving import OpenAIServingChatBatch
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses
from vllm.entrypoints.serve.tokenize.serving import ServingTokenization
from vllm.multimodal.media import MediaConnector
from vllm.multimodal.media.image import ImageMediaIO
from vllm.multimodal.media.video import VideoMediaIO
from vllm.multimodal.video import VideoLoader
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.engine.output_processor import OutputProcessor

from attention_backend import UnsupportedConfiguration

# Hooks and the parameters that we pass or read, in order.
HOOKS: dict[Callable[..., Any], tuple[str, ...]] = {
    AsyncLLM.generate: ("self", "prompt", "sampling_params", "request_id"),
    AsyncLLM.add_request: ("self", "request_id", "prompt", "params"),
    AsyncLLM.shutdown: ("self", "timeout"),
    OutputProcessor.process_outputs: ("self", "engine_core_outputs"),
    OutputProcessor.do_tracing: ("self", "engine_core_output", "req_state"),
    OpenAIServingChat.create_chat_completion: ("self", "request", "raw_request"),
    OpenAIServingChatBatch.create_batch_chat_completion: ("self", "request", "raw_request"),
    OpenAIServingCompletion.create_completion: ("self", "request", "raw_request"),
    OpenAIServingResponses.create_responses: ("self", "request", "raw_request"),
    ServingTokenization.create_tokenize: ("self", "request", "raw_request"),
    ServingTokenization.create_detokenize: ("self", "request", "raw_request"),
    AnthropicServingMessages.create_messages: ("self", "request", "raw_request"),
    AnthropicServingMessages.count_tokens: ("self", "request", "raw_request"),
    InputProcessor._get_mm_identifier: ("self", "mm_hash", "lora_request"),
    OpenAIServingModels.is_base_model: ("self", "model_name"),
    OpenAIServingModels.model_name: ("self", "lora_request"),
    OpenAIServingResponses._validate_generator_input: ("self", "engine_input"),
    OpenAIServingResponses.responses_full_generator: ("self", "request"),
    OpenAIServingResponses.retrieve_responses: ("self", "response_id"),
    OpenAIServingResponses.cancel_responses: ("self", "response_id"),
    MediaConnector.load_from_url: ("self", "url", "media_io", "fetch_timeout"),
    MediaConnector.load_from_url_async: ("self", "url", "media_io", "fetch_timeout"),
    ImageMediaIO.load_bytes: ("self", "data"),
    ImageMediaIO._convert_image_mode: ("self", "image"),
    VideoMediaIO.load_bytes: ("self", "data"),
    VideoMediaIO.load_base64: ("self", "media_type", "data"),
    VideoLoader.read_frames: ("cap", "frame_idx", "total_frames_num"),
    VideoLoader.compute_frames_index_to_sample: ("source", "target"),
    build_app: ("args", "supported_tasks", "model_config"),
    init_app_state: ("engine_client", "state", "args", "supported_tasks"),
    serve_http: ("app", "sock"),
    setup_server: ("args",),
}


def check_hooks(hooks: dict[Callable[..., Any], tuple[str, ...]] = HOOKS) -> None:
    """Check that every hook still takes what we give it.

    A hook that is gone stops the import of this module with its name.

    Raises:
        UnsupportedConfiguration: another vLLM than the one this server is made for.
    """
    for hook, expected in hooks.items():
        parameters = tuple(inspect.signature(hook).parameters)
        if parameters[: len(expected)] != expected:
            raise UnsupportedConfiguration(
                f"vLLM's {hook.__qualname__} takes ({', '.join(parameters)}), but this server needs it to begin with "
                f"({', '.join(expected)}). Install the vLLM that pyproject.toml names."
            )


def become(instance: object, subclass: type) -> None:
    """Turn an object that vLLM built into an instance of our subclass of exactly its class.

    Raises:
        UnsupportedConfiguration: vLLM built something else.
    """
    (base,) = subclass.__bases__
    if type(instance) is not base:
        raise UnsupportedConfiguration(
            f"vLLM uses {type(instance).__name__}, but {subclass.__name__} extends {base.__name__}. "
            "Install the vLLM that pyproject.toml names."
        )
    instance.__class__ = subclass
