"""Fields named `sparsity_*` where nobody reads them: a client that misspells one should not get a dense answer."""

import json
from collections.abc import Iterable

from pydantic import BaseModel
from starlette.types import ASGIApp, Scope

from attention_backend import SPARSITY_P
from server.access.paths import path_of
from server.errors import RequestRefused
from server.refusals import Reason, refusal

PREFIX = "sparsity"
# They read `sparsity_p`, and refuse other fields themselves. /invocations leads to them.
KNOWING_PATHS = frozenset({
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/completions",
    "/v1/responses",
    "/invocations",
})  # fmt: skip
# Where clients put fields by mistake: the first is an argument of OpenAI's SDK and no field.
NESTED = ("extra_body", "vllm_xargs", "extra_args")


def refuse_unknown_sparsity_fields(request: BaseModel) -> None:
    """Refuse what is called `sparsity...` and is not `sparsity_p`, on the routes that know this field.

    Raises:
        RequestRefused: the request has such a field, or has it in a place that nobody reads.
    """
    extra = request.model_extra or {}
    for name in _ours(extra):
        if name != SPARSITY_P:
            raise RequestRefused(
                f"{name[:80]} is no field of a request, but would be ignored. Send {SPARSITY_P}, or leave it out.",
                param=name[:80],
            )
    if isinstance(body := extra.get("extra_body"), dict) and any(_ours(body)):
        raise RequestRefused(
            "extra_body is an argument of OpenAI's SDK, but stands in the body itself, where it would be ignored. "
            f"Move {next(_ours(body))[:80]} to the top level.",
            param="extra_body",
        )


def unknown_sparsity_field(scope: Scope, body: bytes) -> ASGIApp | None:
    """Refuse `sparsity_p` and its like on the routes that run with the server's default.

    Args:
        scope: of the request.
        body: the whole of it.

    Returns:
        The refusal; None where there is nothing to refuse.
    """
    path = path_of(scope)
    if path in KNOWING_PATHS:
        return None
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    name = next(_ours(fields), None) if isinstance(fields, dict) else None
    if name is None:
        return None
    return refusal(
        f"{name[:80]} is set, but {path[:80]} runs with the server's default. Leave it out, or use one of "
        f"{' '.join(sorted(KNOWING_PATHS))}.",
        reason=Reason.FIELD,
        param=name[:80],
    )


def _ours(names: Iterable[str]) -> Iterable[str]:
    return (name for name in names if name.lower().startswith(PREFIX))
