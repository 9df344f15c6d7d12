"""What callers may not learn of each other: prompts and pictures through caches, and stored responses."""

from typing import Any

from vllm.lora.request import LoRARequest
from vllm.v1.engine.input_processor import InputProcessor

from server.access.callers import current_caller

CACHE_SALT = "cache_salt"


def with_own_prefix_cache(prompt: Any) -> Any:
    """A prompt whose cached prefix serves its caller only.

    Blocks that somebody else computed answer faster, and so tell whether somebody asked the same. vLLM keeps prompts
    with different salts apart.

    Args:
        prompt: what the engine gets. Left as it is where no key tells callers apart.
    """
    caller = current_caller()
    if caller is None or not caller.is_named or not isinstance(prompt, dict):
        return prompt
    return {**prompt, CACHE_SALT: f"{caller.name}:{prompt.get(CACHE_SALT) or ''}"}


class IsolatedInputs(InputProcessor):
    """vLLM's input processor, whose encoder cache keeps the pictures of named callers apart.

    A picture that somebody sent before is not encoded again, and so answers faster. With `--allow-media-uuids` this
    also keeps the names that one caller gives to its pictures from meaning those of another.
    """

    def _get_mm_identifier(self, mm_hash: str, lora_request: LoRARequest | None) -> str:
        identifier = super()._get_mm_identifier(mm_hash, lora_request)
        caller = current_caller()
        return identifier if caller is None or not caller.is_named else f"{caller.name}:{identifier}"


class Owners:
    """Who made which stored response."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def note(self, response_id: str) -> None:
        """The current caller made it."""
        if (caller := current_caller()) is not None:
            self._names[response_id] = caller.name

    def may_see(self, response_id: str) -> bool:
        """Whether the current caller made it."""
        caller = current_caller()
        return caller is None or self._names.get(response_id) == caller.name
