"""The gate before the engine and the reports behind it, without an engine."""

import inspect
from collections import Counter
from types import SimpleNamespace

import pytest
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.metrics.stats import RequestStateStats

from attention_backend import REPORT
from server.engine import ReportingOutputProcessor, SparseAsyncLLM
from server.errors import RequestRefused
from server.exchange import Exchange, entered
from server.settings import ServerSettings, SparsityConfig


def engine(selection="zipvl", sparsity_p=1.0) -> SparseAsyncLLM:
    """The client with its checks, but no engine behind it."""
    client = object.__new__(SparseAsyncLLM)
    client.settings = ServerSettings(sparsity_p=sparsity_p, sparsity=SparsityConfig(selection=selection))
    client.max_prefill_tokens = 8
    client.model_config = SimpleNamespace(is_encoder_decoder=False)
    return client


def prompt(num_tokens: int) -> dict:
    return {"type": "token", "prompt_token_ids": list(range(num_tokens))}


def generate(client, prompt, **sampling):
    """Only call it: the checks must run before anything is iterated, while a 400 is still possible."""
    return client.generate(prompt, SamplingParams(**sampling), "id")


def test_a_sparse_prompt_must_fit_one_prefill_step():
    with entered(Exchange(0.9)):
        generate(engine(), prompt(8))
        with pytest.raises(RequestRefused, match=r"has 9 tokens.* step of 8 tokens\. Shorten the prompt") as refused:
            generate(engine(), prompt(9))
    assert refused.value.parameter == "sparsity_p"


def test_a_dense_prompt_need_not_fit():
    with entered(Exchange(1.0)):
        assert inspect.isasyncgen(generate(engine(), prompt(9)))


def test_routes_without_the_field_get_the_servers_default():
    with pytest.raises(RequestRefused, match=r"sparsity_p is 0\.9"):
        generate(engine(sparsity_p=0.9), prompt(9))


def test_extra_args_of_other_routes_are_checked():
    with pytest.raises(RequestRefused, match="sparsity_p is 7, but must be"):
        generate(engine(), prompt(1), extra_args={"sparsity_p": 7})


@pytest.mark.parametrize("sparsity_p", [0.9, 1.0])
def test_prompt_logprobs_need_attention_in_every_row(sparsity_p):
    with entered(Exchange(sparsity_p)):
        generate(engine("keys"), prompt(1), prompt_logprobs=1)
        if sparsity_p == 1.0:
            generate(engine("zipvl"), prompt(1), prompt_logprobs=1)
            return
        with pytest.raises(RequestRefused, match="prompt_logprobs") as refused:
            generate(engine("zipvl"), prompt(1), prompt_logprobs=1)
    assert refused.value.parameter == "prompt_logprobs"


def test_a_streamed_prompt_is_no_whole_prompt():
    async def pieces():
        yield prompt(1)

    with entered(Exchange(0.9)), pytest.raises(RequestRefused, match="the prompt is a stream"):
        generate(engine(), pieces())


class Metrics:
    def __init__(self):
        self.counts = Counter()

    def count_finished(self, report, decode_s):
        self.counts["finished"] += 1
        self.counts["decode_s"] += decode_s

    def count_dropped_feedback(self, num_dropped):
        self.counts["dropped"] += num_dropped


@pytest.fixture
def processor(monkeypatch) -> ReportingOutputProcessor:
    """vLLM's processing reduced to: requests named "last..." finish."""

    def process_outputs(self, outputs):
        for output in outputs:
            assert REPORT not in (output.kv_transfer_params or {})
            if output.request_id.startswith("last"):
                self.request_states.pop(output.request_id, None)

    monkeypatch.setattr(OutputProcessor, "process_outputs", process_outputs)
    processor = object.__new__(ReportingOutputProcessor)
    processor.metrics = Metrics()
    stats = RequestStateStats(first_token_ts=10.0, last_token_ts=12.5)
    processor.request_states = {
        name: SimpleNamespace(queue=SimpleNamespace(), stats=stats) for name in ("running", "last", "last of two")
    }
    return processor


def output(request_id: str, report=None, **params) -> EngineCoreOutput:
    if report is not None:
        params[REPORT] = report.to_dict()
    return EngineCoreOutput(request_id=request_id, new_token_ids=[1], kv_transfer_params=params or None)


def test_reports_leave_the_outputs_and_count_when_their_request_is_gone(processor, make_report):
    states = dict(processor.request_states)
    processor.process_outputs([
        output("running", make_report(feedback_dropped=2)), output("last", make_report(sparsity_p=0.7)),
        output("last of two"), output("aborted", make_report(feedback_dropped=1)),
    ])  # fmt: skip
    assert processor.metrics.counts == {"finished": 1, "dropped": 3, "decode_s": 2.5}
    assert states["last"].queue.winnow_report_slot.report.sparsity_p == 0.7


def test_without_vllms_statistics_no_time_is_counted(processor, make_report):
    processor.request_states["last"].stats = None
    processor.process_outputs([output("last", make_report())])
    assert processor.metrics.counts == {"finished": 1, "dropped": 0, "decode_s": 0}


def test_foreign_transfer_parameters_stay(processor, make_report):
    outputs = [output("last", make_report(), other=1)]
    processor.process_outputs(outputs)
    assert outputs[0].kv_transfer_params == {"other": 1}
