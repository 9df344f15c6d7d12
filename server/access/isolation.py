"""What callers may not learn of each other: prompts through the prefix cache, and stored responses."""

from typing import Any

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
