"""Validation that stops at the first bad item of a list, and that refuses what vLLM's own checks trip over.

pydantic collects the faults of every item, and for each of them those of every type that an item may have. A body of
4 kB on /v1/responses made 233,000 faults that way, in seconds in which no other request was served, and in proportion
to the body. What is valid stays valid.

Checks of vLLM that come before those of the fields look into values of types that nobody has checked yet: with
`"structured_outputs": false` one of them raises AttributeError, which would be HTTP 500.
"""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic_core import SchemaValidator, ValidationError

from attention_backend import UnsupportedConfiguration

_LISTS = ("list", "tuple", "set", "frozenset")


def fail_fast(app: FastAPI) -> None:
    """Let the validation of every body be so.

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
            adapter.validator = BodyValidator(adapter.core_schema)


class BodyValidator:
    """The validator of one kind of body.

    Args:
        core_schema: pydantic's.
    """

    def __init__(self, core_schema: Any) -> None:
        schema = failing_fast(core_schema)
        # A prebuilt validator of the model would collect all faults again.
        self._whole = SchemaValidator(schema, _use_prebuilt=False)
        self._fields_alone = SchemaValidator(without_checks_before(schema), _use_prebuilt=False)

    def validate_python(self, *args: Any, **kwargs: Any) -> Any:
        """The body as its model.

        Raises:
            ValidationError: it is none; where a check in front of the fields breaks down, this names the field.
        """
        try:
            return self._whole.validate_python(*args, **kwargs)
        except ValidationError:
            raise
        except Exception:
            self._fields_alone.validate_python(*args, **kwargs)
            raise


def failing_fast(schema: Any) -> Any:
    """A copy of a pydantic core schema in which every list ends at its first bad item."""

    def change(node: dict[str, Any]) -> dict[str, Any]:
        kind = node.get("type")
        return {**node, "fail_fast": True} if isinstance(kind, str) and kind in _LISTS else node

    return _copied(schema, change)


def without_checks_before(schema: Any) -> Any:
    """A copy of a pydantic core schema without the functions that see a value before it is validated."""

    def change(node: dict[str, Any]) -> dict[str, Any]:
        if node.get("type") != "function-before":
            return node
        # Others may refer to the node that goes.
        return {**node["schema"], **({"ref": node["ref"]} if "ref" in node else {})}

    return _copied(schema, change)


def _copied(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A copy in which every mapping went through `change`, inner ones first."""
    if isinstance(schema, dict):
        return change({name: _copied(value, change) for name, value in schema.items()})
    if isinstance(schema, list):
        return [_copied(item, change) for item in schema]
    return tuple(_copied(item, change) for item in schema) if type(schema) is tuple else schema
