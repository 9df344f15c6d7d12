"""What an operator sees of a request without its words: logs as JSON, traces, and an engine that hangs."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import httpx
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.server.harness import Server, running_server, wait_until

SECRET = "my card ends with 4711"
READINESS_TIMEOUT_S = 2
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it gets, by the name of their HTTP request."""

    def __init__(self) -> None:
        self.spans: dict[str, object] = {}

    def Export(self, request, context):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {attribute.key: attribute.value for attribute in span.attributes}
                    if "winnow.request_id" in attributes:
                        self.spans[attributes["winnow.request_id"].string_value] = span
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(scope="module")
def observed(tmp_path_factory, collector) -> Iterator[Server]:
    options = {
        "logging_config.formatter": "json",
        "otlp_traces_endpoint": collector[1],
        "readiness_timeout": READINESS_TIMEOUT_S,
    }
    with running_server(tmp_path_factory.mktemp("observed") / "log.txt", **options) as server:
        yield server


@pytest.fixture
def record_of(observed) -> Callable[[str], dict]:
    """The log's only record about a request; it is written when the client has its answer."""

    def records_of(request_id: str) -> list[dict]:
        return [record for record in served_records(observed) if record.get("request_id") == request_id]

    def record_of(request_id: str) -> dict:
        wait_until(lambda: bool(records_of(request_id)), 30, "the record of the request")
        (record,) = records_of(request_id)
        return record

    return record_of


def served_records(server: Server) -> list[dict]:
    """Every line since the server was ready; before that, libraries print a few of their own."""
    lines = server.log.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if "Ask it something" in line)
    return [json.loads(line) for line in lines[start:]]


def ask(server: Server, request_id: str, messages: list[dict], **fields) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/chat/completions?token={SECRET}",
        json={"model": "demo", "messages": messages, "max_tokens": 4, **fields},
        headers={
            "X-Request-Id": request_id,
            "Authorization": f"Bearer {SECRET}",
            "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01",
        },
        timeout=60,
    )


def test_a_request_is_one_record(observed, record_of, about_picture):
    usage = ask(observed, "one", about_picture, sparsity_p=0.6).json()["usage"]
    record = record_of("one")
    wanted = {
        "method": "POST", "path": "/v1/chat/completions", "status": 200, "client": "127.0.0.1", "model": "demo",
        "levelname": "INFO", "prompt_tokens": usage["prompt_tokens"], "sparsity_p": 0.6,
        "token_ratio": round(usage["sparsity"]["token_ratio"], 4),
        "kv_ratio": round(usage["sparsity"]["kv_ratio"], 4),
    }  # fmt: skip
    assert {name: record[name] for name in wanted} == wanted
    assert 0 < record["duration_s"] < 60


def test_streams_and_refusals_are_records_too(observed, record_of, about_picture):
    ask(observed, "streamed", about_picture, stream=True, sparsity_p=0.5)
    streamed = record_of("streamed")
    assert (streamed["status"], streamed["sparsity_p"]) == (200, 0.5)
    assert 0 < streamed["kv_ratio"] < 1
    ask(observed, "refused", about_picture, sparsity_p=7)
    refused = record_of("refused")
    assert refused["status"] == 400
    assert "sparsity_p" not in refused


def test_a_client_that_leaves_is_recorded_as_gone(observed, record_of, about_picture):
    # More than the server can say before a client that must wait for its turn has left.
    length = {"max_tokens": 3000, "ignore_eos": True, "n": 16, "temperature": 1}
    body = {"model": "demo", "messages": about_picture, "stream": True, **length}
    headers = {"X-Request-Id": "gone"}
    with httpx.stream("POST", f"{observed.url}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
        next(answer.iter_lines())
    assert record_of("gone")["status"] == 499


def test_no_record_holds_what_was_said(observed, record_of, about_picture):
    messages = [{"role": "user", "content": SECRET}]
    ask(observed, "said", messages)
    ask(observed, "said-badly", messages, sparsity_p=SECRET)
    ask(observed, "said-with-a-stop", messages, stop=[SECRET], temperature=-1)
    httpx.post(f"{observed.url}/v1/chat/completions", content=SECRET, timeout=60)
    ask(observed, "drawn", about_picture)
    assert record_of("drawn")["status"] == 200
    log = observed.log.read_text()
    assert SECRET not in log
    assert "base64" not in log


def test_probes_fill_no_log(observed):
    for path in ("livez", "readyz", "health", "metrics"):
        assert httpx.get(f"{observed.url}/{path}", timeout=60).status_code == 200
    assert [record for record in served_records(observed) if record.get("path") in ("/livez", "/metrics")] == []


def test_a_path_cannot_forge_a_line(observed, record_of):
    httpx.get(f"{observed.url}/no%0Asuch%22path", headers={"X-Request-Id": "forged"}, timeout=60)
    record = record_of("forged")
    assert (record["path"], record["status"]) == ("/no%0Asuch%22path", 404)


def test_a_trace_carries_what_pruning_did(observed, collector, about_picture):
    sparsity = ask(observed, "traced", about_picture, sparsity_p=0.6).json()["usage"]["sparsity"]
    spans = collector[0].spans
    wait_until(lambda: "traced" in spans, 60, "the span of the request")
    span = spans["traced"]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    attributes = {attribute.key: value_of(attribute.value) for attribute in span.attributes}
    ours = {name.removeprefix("winnow."): value for name, value in attributes.items() if name.startswith("winnow.")}
    assert ours == {"request_id": "traced", **sparsity}
    assert attributes["gen_ai.request.id"] == "chatcmpl-traced"


def value_of(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return [value_of(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def status(server: Server, path: str) -> int:
    return httpx.get(f"{server.url}{path}", timeout=10).status_code


def test_a_hanging_engine_is_alive_but_not_ready(observed):
    children = psutil.Process(observed.process.pid).children(recursive=True)
    engine = next(child for child in children if child.cmdline()[:1] == ["VLLM::EngineCore"])
    assert status(observed, "/readyz") == 200
    engine.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: status(observed, "/readyz") == 503, 60, "/readyz's change")
        message = httpx.get(f"{observed.url}/readyz").json()["error"]["message"]
        assert message.startswith("The engine has generated nothing for")
        assert status(observed, "/livez") == status(observed, "/health") == 200
    finally:
        engine.send_signal(signal.SIGCONT)
    wait_until(lambda: status(observed, "/readyz") == 200, 60, "the engine's return")


def test_readiness_asks_the_engine_itself_when_nobody_else_does(observed):
    finished = observed.metric("vllm:request_success_total")
    time.sleep(6)
    assert status(observed, "/readyz") == 200
    wait_until(lambda: observed.metric("vllm:request_success_total") == finished + 1, 30, "the question's end")
