"""Pruning in vLLM's OpenTelemetry traces: `--otlp-traces-endpoint` is vLLM's, and so is the span of each request.

vLLM builds a span's attributes inside the method that makes it, so ours are added where OpenTelemetry lets everyone
add some: by a span processor, when the span starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

from server.exchange import ReportSlot

_finishing: ContextVar[ReportSlot | None] = ContextVar("winnow_finishing_request", default=None)


class SparsityAttributes(SpanProcessor):
    """Adds `winnow.*` to the span of a request: the values of `usage.sparsity`, and the id of its HTTP request."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        slot = _finishing.get()
        if slot is None:
            return
        attributes = {"winnow.request_id": slot.request_id}
        if (report := slot.report) is not None:
            attributes |= {
                "winnow.sparsity_p": report.sparsity_p,
                "winnow.selection": report.selection,
                "winnow.token_ratio": report.token_ratio,
                "winnow.kv_ratio": report.kv_ratio,
                "winnow.kept_tokens_per_layer": report.kept_tokens_per_layer,
            }
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})


def add_sparsity_to_traces() -> None:
    """To be called when vLLM has set up its traces (its engine client does)."""
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SparsityAttributes())


@contextmanager
def finishing(slot: ReportSlot) -> Iterator[None]:
    """Spans that start within the block are about this request."""
    token = _finishing.set(slot)
    try:
        yield
    finally:
        _finishing.reset(token)
