"""`usage.sparsity`: numbers worked by hand, written into responses and into the one event that has usage."""

import asyncio
import json

import pytest
from vllm.entrypoints.openai.completion.protocol import CompletionResponse
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from server.exchange import Exchange, ReportSlot
from server.usage import add_to_response, add_to_stream, sparsity_usage

ONE = {
    "sparsity_p": 0.9,
    "selection": "zipvl",
    "token_ratio": 0.4,
    "kv_ratio": 0.5,
    "kept_tokens_per_layer": [30, 50],
}


def exchange(*reports) -> Exchange:
    return Exchange(0.9, slots=[ReportSlot(report) for report in reports])


def test_one_prompt_reports_as_it_is(make_report):
    assert sparsity_usage([make_report()]).fields() == ONE


@pytest.mark.parametrize("ranking", ["random", "recent"])
def test_a_baseline_ranking_shows(make_report, ranking):
    assert sparsity_usage([make_report(ranking=ranking)] * 2).fields()["ranking"] == ranking
    response = CompletionResponse(model="demo", choices=[], usage=UsageInfo(prompt_tokens=100))
    add_to_response(response, exchange(make_report(ranking=ranking)))
    assert response.model_dump()["usage"]["sparsity"] == {**ONE, "ranking": ranking}


def test_no_report_says_nothing():
    assert sparsity_usage([]) is None


def test_prompts_add_up_by_length(make_report):
    other = make_report(token_ratio=0.8, kv_ratio=1.0, kept_tokens_per_layer=[240, 240], num_prompt_tokens=300)
    usage = sparsity_usage([make_report(), other])
    assert usage.token_ratio == pytest.approx((0.4 * 100 + 0.8 * 300) / 400)
    assert usage.kv_ratio == pytest.approx((0.5 * 100 + 1.0 * 300) / 400)
    assert usage.kept_tokens_per_layer == [270, 290]


def test_whole_response(make_report):
    response = CompletionResponse(model="demo", choices=[], usage=UsageInfo(prompt_tokens=100))
    add_to_response(response, exchange(make_report()))
    assert response.model_dump()["usage"]["sparsity"] == ONE
    assert json.loads(response.model_dump_json())["usage"]["sparsity"] == ONE


def test_only_the_usage_event_of_a_stream_changes(make_report):
    events = [
        'data: {"choices":[{"text":"\\"choices\\":[] \\"usage\\":{"}]}\n\n',
        'data: {"choices":[{"text":"é"}],"usage":{"prompt_tokens":3}}\n\n',
        'data: {"id":"é","choices":[],"usage":{"prompt_tokens":3}}\n\n',
        "data: [DONE]\n\n",
    ]

    async def stream():
        for event in events:
            yield event

    async def run():
        return [event async for event in add_to_stream(stream(), exchange(make_report()))]

    *first, usage_event, done = asyncio.run(run())
    assert (first, done) == (events[:2], events[3])
    assert usage_event.endswith("\n\n")
    assert json.loads(usage_event.removeprefix("data: ")) == {
        "id": "é", "choices": [], "usage": {"prompt_tokens": 3, "sparsity": ONE},
    }  # fmt: skip
