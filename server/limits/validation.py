"""Validation that stops at the first bad item of a list.

pydantic collects the faults of every item, and for each of them those of every type that an item may have. A body of
4 kB on /v1/responses made 233,000 faults that way, in seconds in which no other request was served, and in proportion
to the body. What is valid stays valid.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic_core import SchemaValidator

from attention_backend import UnsupportedConfiguration

_LISTS = ("list", "tuple", "set", "frozenset")


def fail_fast(app: FastAPI) -> None:
    """Let the validation of every body stop so.

    Args:
        app: with all its routes.

    Raises:
        UnsupportedConfiguration: FastAPI keeps its validators elsewhere.
    """
    for route in app.router.routes:
        if isinstance(route, APIRoute) and route.body_field is not None:
            adapter = getattr(route.body_field, "_type_adapter", None)
            if adapter is None:
                raise UnsupportedConfiguration(
                    f"FastAPI validates {route.path} without a TypeAdapter, but this server must bound the validation. "
                    "Install the FastAPI that constraints-cpu.txt and constraints-cuda.txt name."
                )
            # A prebuilt validator of the model would collect all faults again.
            adapter.validator = SchemaValidator(failing_fast(adapter.core_schema), _use_prebuilt=False)


def failing_fast(schema: Any) -> Any:
    """A copy of a pydantic core schema in which every list ends at its first bad item."""
    if isinstance(schema, dict):
        copy = {name: failing_fast(value) for name, value in schema.items()}
        kind = schema.get("type")
        if isinstance(kind, str) and kind in _LISTS:
            copy["fail_fast"] = True
        return copy
    if isinstance(schema, list):
        return [failing_fast(item) for item in schema]
    return tuple(failing_fast(item) for item in schema) if type(schema) is tuple else schema
