"""The one place that writes `usage.sparsity`, for whole responses and for the last event of a stream."""

import json
from collections.abc import AsyncGenerator, Sequence

from pydantic import BaseModel

from attention_backend import SparsityReport
from server.exchange import Exchange
from server.protocol import SparsityUsage

FIELD = "sparsity"
_EVENT_PREFIX = "data: "


def sparsity_usage(reports: Sequence[SparsityReport]) -> SparsityUsage | None:
    """What one HTTP request saved; None where the engine reported nothing (it was aborted).

    Several prompts in one completion request add up as their `prompt_tokens` do: kept tokens are summed, ratios are
    weighted by prompt length. The `n` sequences of one prompt prune alike and count once.

    Args:
        reports: one for each prompt.
    """
    if not reports:
        return None
    num_prompt_tokens = sum(report.num_prompt_tokens for report in reports)

    def weighted(name: str) -> float:
        if len(reports) == 1:
            return getattr(reports[0], name)
        return sum(getattr(report, name) * report.num_prompt_tokens for report in reports) / num_prompt_tokens

    return SparsityUsage(
        sparsity_p=reports[0].sparsity_p,
        selection=reports[0].selection,
        token_ratio=weighted("token_ratio"),
        kv_ratio=weighted("kv_ratio"),
        kept_tokens_per_layer=[
            sum(layer) for layer in zip(*(report.kept_tokens_per_layer for report in reports), strict=True)
        ],
        ranking=None if reports[0].ranking == "attention" else reports[0].ranking,
    )


def add_to_response(response: BaseModel, exchange: Exchange) -> None:
    """Write `usage.sparsity` into a whole response; responses without usage (errors) stay as they are."""
    usage = getattr(response, "usage", None)
    sparsity = sparsity_usage(exchange.reports)
    if usage is not None and sparsity is not None:
        setattr(usage, FIELD, sparsity.fields())


async def add_to_stream(events: AsyncGenerator[str, None], exchange: Exchange) -> AsyncGenerator[str, None]:
    """Write `usage.sparsity` into the usage event of a chat or completion stream.

    vLLM's generators build and serialise that event in one expression and hand out text, so the text of this single
    event is read and written again. All other events pass untouched.
    """
    try:
        async for event in events:
            yield _with_sparsity(event, exchange) if _is_usage_event(event) else event
    finally:
        await events.aclose()


def _is_usage_event(event: str) -> bool:
    """Cheap and exact: quotes inside generated text are escaped, and only this event has no choices."""
    return event.startswith(_EVENT_PREFIX) and '"choices":[]' in event and '"usage":{' in event


def _with_sparsity(event: str, exchange: Exchange) -> str:
    sparsity = sparsity_usage(exchange.reports)
    if sparsity is None:
        return event
    body = json.loads(event.removeprefix(_EVENT_PREFIX))
    body["usage"][FIELD] = sparsity.fields()
    return f"{_EVENT_PREFIX}{json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"
