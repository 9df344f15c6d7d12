"""The field in the machine-readable description."""

import pytest
from fastapi import FastAPI
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from server.openapi import describe_sparsity_p, field_schema
from server.settings import ServerSettings


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        (ServerSettings(), {"type": "number", "exclusiveMinimum": 0, "maximum": 1.0}),
        (ServerSettings(0.7, 0.5, 0.9), {"type": "number", "minimum": 0.5, "maximum": 0.9}),
    ],
)
def test_bounds_and_default_are_the_servers(settings, number):
    schema = field_schema(settings)
    assert schema["anyOf"] == [number, {"type": "null"}]
    assert schema["default"] == settings.sparsity_p


def test_request_bodies_show_the_field():
    app = FastAPI()

    @app.post("/v1/completions")
    def complete(request: CompletionRequest):
        return None

    describe_sparsity_p(app, ServerSettings())
    for _ in range(2):
        properties = app.openapi()["components"]["schemas"]["CompletionRequest"]["properties"]
        assert properties["sparsity_p"]["default"] == 1.0
        assert "prompt" in properties
