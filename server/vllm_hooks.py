"""What this server leans on in vLLM beyond its command line, and the check that it is all there.

| hook | why | goes when |
| --- | --- | --- |
| `AsyncLLM.generate`, `add_request` | the one gate of all routes: checks, `extra_args`, slots for reports | vLLM lets endpoint plugins see engine requests |
| `OutputProcessor.process_outputs`, `request_states[...].queue` | reports survive merged outputs | outputs carry custom fields |
| `create_*` of the four serving classes, `app.state.openai_serving_*` | the field and `usage.sparsity` | serving classes are pluggable |
| `OpenAIServingResponses._validate_generator_input`, `responses_full_generator` | check before a stream starts; usage of all kinds of responses | as above |
| `OpenAIServingModels.is_base_model`, `model_name`, `lora_requests` | model aliases | vLLM lets names carry defaults of a request |
| `build_app`, `init_app_state`, `serve_http`, `setup_server` | vLLM's launcher with our engine client | `build_and_serve` takes a client factory |
"""  # noqa: E501

import inspect
from collections.abc import Callable
from typing import Any

from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.openai.chat_completion.batch_serving import OpenAIServingChatBatch
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import OutputProcessor

from attention_backend import UnsupportedConfiguration

# Hooks and the parameters that we pass or read, in order.
HOOKS: dict[Callable[..., Any], tuple[str, ...]] = {
    AsyncLLM.generate: ("self", "prompt", "sampling_params", "request_id"),
    AsyncLLM.add_request: ("self", "request_id", "prompt", "params"),
    OutputProcessor.process_outputs: ("self", "engine_core_outputs"),
    OpenAIServingChat.create_chat_completion: ("self", "request", "raw_request"),
    OpenAIServingChatBatch.create_batch_chat_completion: ("self", "request", "raw_request"),
    OpenAIServingCompletion.create_completion: ("self", "request", "raw_request"),
    OpenAIServingResponses.create_responses: ("self", "request", "raw_request"),
    OpenAIServingModels.is_base_model: ("self", "model_name"),
    OpenAIServingModels.model_name: ("self", "lora_request"),
    OpenAIServingResponses._validate_generator_input: ("self", "engine_input"),
    OpenAIServingResponses.responses_full_generator: ("self", "request"),
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
