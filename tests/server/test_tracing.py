"""Attributes of spans, in OpenTelemetry's own recorder."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.exchange import ReportSlot
from server.tracing import SparsityAttributes, finishing


def attributes_within(slot: ReportSlot | None) -> dict:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SparsityAttributes())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    if slot is None:
        tracer.start_span("other").end()
    else:
        with finishing(slot):
            tracer.start_span("request").end()
    return dict(exporter.get_finished_spans()[0].attributes)


def test_a_requests_span_says_what_pruning_did(make_report):
    assert attributes_within(ReportSlot(make_report(), request_id="mine")) == {
        "winnow.request_id": "mine",
        "winnow.sparsity_p": 0.9,
        "winnow.selection": "zipvl",
        "winnow.token_ratio": 0.4,
        "winnow.kv_ratio": 0.5,
        "winnow.kept_tokens_per_layer": (30, 50),
    }


def test_what_is_not_known_is_left_out():
    assert attributes_within(ReportSlot()) == {}
    assert attributes_within(ReportSlot(request_id="aborted")) == {"winnow.request_id": "aborted"}


def test_other_spans_stay_as_they_are():
    assert attributes_within(None) == {}
