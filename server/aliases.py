"""`MODEL@p=0.975`: a model name that chooses `sparsity_p`, for clients that can send no field of ours."""

from dataclasses import dataclass

from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.lora.request import LoRARequest

from server.exchange import current_exchange
from server.protocol import checked
from server.settings import ServerSettings

SEPARATOR = "@p="


@dataclass(frozen=True, slots=True)
class ModelAlias:
    """A request's `model`, taken apart.

    Attributes:
        asked: as the client wrote it.
        model: the served model or LoRA adapter.
        sparsity_p: checked.
    """

    asked: str
    model: str
    sparsity_p: float


def alias_of(model: str | None, models: OpenAIServingModels, settings: ServerSettings) -> ModelAlias | None:
    """Read a request's `model` as an alias.

    Args:
        model: of the request.
        models: what is served.
        settings: the server's bounds.

    Returns:
        None where something is served under exactly this name, or nothing under the name before the separator:
        then vLLM answers, perhaps that there is no such model.

    Raises:
        RequestRefused: what stands behind the separator breaks a rule of `sparsity_p`.
    """
    if model is None or _is_served(model, models):
        return None
    name, separator, text = model.rpartition(SEPARATOR)
    if not separator or not _is_served(name, models):
        return None
    return ModelAlias(model, name, checked(_number(text), settings, param="model"))


def _is_served(name: str, models: OpenAIServingModels) -> bool:
    return models.is_base_model(name) or name in models.lora_requests


def _number(text: str) -> float | str:
    """The text itself where it is no number, for the error that shows it."""
    try:
        return float(text)
    except ValueError:
        return text


class AliasedModels(OpenAIServingModels):
    """Answers with the alias that a request asked for.

    Every response and every chunk gets its `model` from here; /v1/models shows what is served, without aliases.
    """

    def model_name(self, lora_request: LoRARequest | None = None) -> str:
        exchange = current_exchange()
        if exchange is not None and exchange.alias is not None:
            return exchange.alias
        return super().model_name(lora_request)
