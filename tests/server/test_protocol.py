"""The field `sparsity_p` of vLLM's request models."""

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from server.errors import RequestRefused
from server.protocol import MAX_VALUE_CHARS, requested_sparsity_p
from server.settings import ServerSettings

SETTINGS = ServerSettings(sparsity_p=0.8, min_sparsity_p=0.5, max_sparsity_p=0.95)
BODIES = {
    ChatCompletionRequest: {"messages": [{"role": "user", "content": "hello"}]},
    CompletionRequest: {"prompt": "hello"},
    ResponsesRequest: {"input": "hello"},
}


def request(model, /, **fields):
    return model.model_validate({**BODIES[model], **fields})


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
@pytest.mark.parametrize(("fields", "expected"), [
    ({}, 0.8), ({"sparsity_p": None}, 0.8), ({"sparsity_p": 0.6}, 0.6), ({"sparsity_p": 0.5}, 0.5),
    ({"sparsity_p": 0.95}, 0.95),
])  # fmt: skip
def test_value_or_the_servers_default(model, fields, expected):
    assert requested_sparsity_p(request(model, **fields), SETTINGS) == expected


def test_a_whole_one_is_a_number():
    assert requested_sparsity_p(request(CompletionRequest, sparsity_p=1), ServerSettings()) == 1.0


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
@pytest.mark.parametrize(
    "value", [0, -0.5, 1.5, 0.49, 0.96, 1, float("nan"), float("inf"), True, False, "0.9", [0.9], {"p": 0.9}, 10**400],
    ids=lambda value: str(value)[:8],
)  # fmt: skip
def test_bad_values_are_refused_with_the_fields_name(model, value):
    with pytest.raises(RequestRefused, match=r"sparsity_p is .*, but .* Send a number") as refused:
        requested_sparsity_p(request(model, sparsity_p=value), SETTINGS)
    assert refused.value.parameter == "sparsity_p"
    assert str(refused.value) == refused.value.message


def test_a_long_value_is_not_repeated():
    with pytest.raises(RequestRefused) as refused:
        requested_sparsity_p(request(CompletionRequest, sparsity_p="x" * 10_000), SETTINGS)
    assert len(str(refused.value)) < MAX_VALUE_CHARS + 120


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
@pytest.mark.parametrize("fields", [{}, {"sparsity_p": None}, {"sparsity_p": 0.6}], ids=str)
def test_an_alias_chooses_where_the_field_does_not_say_otherwise(model, fields):
    assert requested_sparsity_p(request(model, **fields), SETTINGS, by_alias=0.6) == 0.6


def test_an_alias_and_a_field_that_disagree_are_both_named():
    asked = request(CompletionRequest, model="demo@p=0.6", sparsity_p=0.7)
    sentence = r"sparsity_p is 0\.7 and model is 'demo@p=0\.6', but .* Leave one of them out"
    with pytest.raises(RequestRefused, match=sentence) as refused:
        requested_sparsity_p(asked, SETTINGS, by_alias=0.6)
    assert refused.value.parameter == "sparsity_p"


def test_a_bad_field_is_named_whatever_the_alias_says():
    with pytest.raises(RequestRefused, match=r"sparsity_p is 1\.5, but must be"):
        requested_sparsity_p(request(CompletionRequest, model="demo@p=0.6", sparsity_p=1.5), SETTINGS, by_alias=0.6)


def test_vllm_xargs_is_no_way_around_the_bounds():
    with pytest.raises(RequestRefused, match="Move it to the top level") as refused:
        requested_sparsity_p(request(CompletionRequest, vllm_xargs={"sparsity_p": 0.01}), SETTINGS)
    assert refused.value.parameter == "vllm_xargs"


def test_beam_search_runs_dense_only():
    settings = ServerSettings()
    with pytest.raises(RequestRefused, match=r"use_beam_search is true and sparsity_p is 0.9"):
        requested_sparsity_p(request(CompletionRequest, use_beam_search=True, sparsity_p=0.9), settings)
    assert requested_sparsity_p(request(CompletionRequest, use_beam_search=True), settings) == 1.0
    with pytest.raises(RequestRefused, match="use_beam_search is true"):
        requested_sparsity_p(request(CompletionRequest, use_beam_search=True), settings, by_alias=0.9)
