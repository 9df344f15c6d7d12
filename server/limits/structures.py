"""Limits on the grammars that an answer must fit: compiling them takes time and memory that grow with their size.

vLLM limits how deep a schema nests and how long a regular expression compiles; the size is limited here, and the engine
ends a request whose grammar takes too long to follow.
"""

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from vllm.outputs import RequestOutput
from vllm.sampling_params import StructuredOutputsParams

from attention_backend.vllm_adapter.grammar_time import GRAMMAR_STUCK, GRAMMAR_TOO_SLOW
from server.errors import RequestRefused
from server.limits.settings import RequestLimits

_SCHEMAS = ("json", "grammar", "structural_tag", "choice")
# By the `stop_reason` of a request that the engine ended.
_FAULTS = {
    GRAMMAR_TOO_SLOW: "takes longer and longer to check with every token. Send one without repetitions within "
    "repetitions.",
    GRAMMAR_STUCK: "allows no further token, or none that logit_bias, allowed_token_ids and bad_words leave. Correct "
    "it.",
}


def check_structure(structure: StructuredOutputsParams | None, limits: RequestLimits) -> None:
    """Refuse a grammar that is too large to compile for a stranger.

    Args:
        structure: what vLLM made of `response_format`, `structured_outputs`, `tools` and their like.
        limits: the operator's.

    Raises:
        RequestRefused: it is larger than a limit.
    """
    if structure is None:
        return
    for name in _SCHEMAS:
        value = getattr(structure, name)
        if value is not None and (size := _num_bytes(value)) > limits.max_schema_bytes:
            raise RequestRefused(
                f"structured_outputs.{name} (or the response_format or tools it comes from) has {size} bytes, but may "
                f"have {limits.max_schema_bytes}. Send a smaller one, or raise --max-schema-kib.",
                param="structured_outputs",
            )
    for name, pattern in _patterns(structure):
        if len(pattern) > limits.max_regex_chars:
            raise RequestRefused(
                f"structured_outputs.{name} has a regular expression of {len(pattern)} characters, but may have "
                f"{limits.max_regex_chars}. Send a shorter one, or raise --max-regex-chars.",
                param="structured_outputs",
            )


async def grammar_checked(outputs: AsyncGenerator[RequestOutput, None]) -> AsyncGenerator[RequestOutput, None]:
    """Pass outputs through.

    Raises:
        RequestRefused: the engine ended the request because of its grammar.
    """
    try:
        async for output in outputs:
            for completion in output.outputs:
                if completion.finish_reason == "error" and completion.stop_reason in _FAULTS:
                    raise RequestRefused(
                        "structured_outputs (or the response_format or tools it comes from) is a grammar that "
                        f"{_FAULTS[completion.stop_reason]}",
                        param="structured_outputs",
                    )
            yield output
    finally:
        await outputs.aclose()


def _num_bytes(value: Any) -> int:
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        raise RequestRefused(
            "structured_outputs.json nests too deeply to be written down, but must be JSON that can be. Send a flatter "
            "schema.",
            param="structured_outputs",
        ) from None
    return len(text.encode("utf-8", "surrogatepass"))


def _patterns(structure: StructuredOutputsParams) -> Iterator[tuple[str, str]]:
    """Regular expressions and the fields they stand in."""
    for name in ("regex", "whitespace_pattern"):
        if (pattern := getattr(structure, name)) is not None:
            yield name, pattern
    for name in ("json", "structural_tag"):
        if (value := getattr(structure, name)) is not None:
            yield from ((name, pattern) for pattern in _patterns_within(_parsed(value)))


def _parsed(value: Any) -> Any:
    """None where the text is no JSON: vLLM says so."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def _patterns_within(schema: Any) -> Iterator[str]:
    """`pattern` and the names of `patternProperties`, at any depth, without recursion."""
    pending = [schema]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            pending += item.values()
            for name in ("pattern", "regex"):
                if isinstance(item.get(name), str):
                    yield item[name]
            properties = item.get("patternProperties")
            yield from (name for name in (properties if isinstance(properties, dict) else ()))
