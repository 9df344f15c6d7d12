"""The paths of vLLM's routes and ours, by who may call them; what is not listed here is for operators."""

from starlette.types import Scope

METRICS = frozenset({"/metrics"})
DOCS = frozenset({"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/static"})
# One bit of answer and no input: whoever supervises the server needs no key. /ping is SageMaker's /health.
PROBES = frozenset({"/livez", "/readyz", "/health", "/ping"})

SERVED = frozenset({
    "/livez",
    "/readyz",
    "/health",
    "/version",
    "/v1/models",
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/completions",
    "/v1/responses",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/cancel",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/detokenize",
})  # fmt: skip

# Off by default, but open to every caller when on: they neither change the server nor touch others' requests.
HARMLESS = frozenset({
    "/ping",
    "/invocations",
    "/load",
    "/tokenizer_info",
    "/generative_scoring",
    "/v1/systemone",
    "/v1/chat/completions/render",
    "/v1/messages/render",
    "/v1/completions/render",
    "/v1/responses/render",
    "/v1/chat/completions/derender",
    "/v1/completions/derender",
})  # fmt: skip


def path_of(scope: Scope) -> str:
    """The path as the routes have it, without what a proxy in front put before it; empty where there is none."""
    return scope.get("path", "").removeprefix(scope.get("root_path", ""))
