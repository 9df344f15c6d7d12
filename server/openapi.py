"""`sparsity_p` in /openapi.json and /docs, where clients and people look fields up."""

from typing import Any

from fastapi import FastAPI

from attention_backend import SPARSITY_P
from server.settings import ServerSettings

# vLLM's names of the request bodies that take the field.
REQUEST_SCHEMAS = (
    "ChatCompletionRequest",
    "BatchChatCompletionRequest",
    "CompletionRequest",
    "ResponsesRequest",
)


def describe_sparsity_p(app: FastAPI, settings: ServerSettings) -> None:
    """Add the field to the application's schema (FastAPI's documented way: replace `app.openapi`)."""
    build_schema = app.openapi

    def openapi() -> dict[str, Any]:
        schema = build_schema()
        bodies = schema.get("components", {}).get("schemas", {})
        for name in REQUEST_SCHEMAS:
            if name in bodies:
                bodies[name]["properties"][SPARSITY_P] = field_schema(settings)
        return schema

    app.openapi = openapi


def field_schema(settings: ServerSettings) -> dict[str, Any]:
    """JSON schema of the field, with this server's default and bounds."""
    lower = {"minimum": settings.min_sparsity_p} if settings.min_sparsity_p > 0 else {"exclusiveMinimum": 0}
    return {
        "title": "Sparsity P",
        "description": "Share of the attention mass of the prompt to keep; 1 is dense. The answer's `usage.sparsity` "
        "says what that saved. The model name `MODEL@p=VALUE` chooses it too.",
        "anyOf": [{"type": "number", **lower, "maximum": settings.max_sparsity_p}, {"type": "null"}],
        "default": settings.sparsity_p,
    }
