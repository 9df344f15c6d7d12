"""Any value in the fields of a request that are ours: used as it is, or refused with its name; nothing else happens.

`pytest --hypothesis-profile=wide tests/server/test_properties_requests.py` draws 2,000 values for each test.
"""

import math
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from vllm.entrypoints.openai.chat_completion.protocol import BatchChatCompletionRequest, ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIModelRegistry, OpenAIServingModels
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from attention_backend import SPARSITY_P
from server.aliases import ModelAlias, alias_of
from server.errors import InvalidServerSettings, RequestRefused
from server.limits.fields import refuse_unknown_sparsity_fields
from server.media.identity import refuse_media_uuids
from server.protocol import requested_sparsity_p
from server.settings import ServerSettings
from tests.server.outcomes import can_be_sent, outcome
from tests.server.strategies import json_values, numbers, scalars, texts

MESSAGES = [{"role": "user", "content": "hello"}]
BODIES = {
    ChatCompletionRequest: {"messages": MESSAGES},
    BatchChatCompletionRequest: {"messages": [MESSAGES]},
    CompletionRequest: {"prompt": "hello"},
    ResponsesRequest: {"input": "hello"},
}
MAX_MESSAGE_CHARS = 400

models_of_requests = st.sampled_from(list(BODIES))
bounds = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(sorted).filter(lambda pair: pair[1] > 0)


def request(model, **fields):
    return model.model_validate({**BODIES[model], **fields})


def is_allowed(value: object, minimum: float, maximum: float) -> bool:
    """The rule of the documents, once more."""
    return type(value) in (int, float) and 0 < value <= 1 and minimum <= value <= maximum


def check_refusal(refused: RequestRefused, param: str) -> None:
    """One sentence with a remedy, short, that fits into an answer."""
    assert refused.parameter == param
    assert ", but " in refused.message
    assert re.search(r"\. (Send|Leave|Move) ", refused.message)
    assert len(refused.message) < MAX_MESSAGE_CHARS
    assert can_be_sent(refused.message)


@given(models_of_requests, bounds, json_values)
@example(ChatCompletionRequest, [0.0, 1.0], 5e-324)
@example(ChatCompletionRequest, [0.0, 1.0], -0.0)
@example(CompletionRequest, [0.0, 1.0], math.nextafter(1.0, 2.0))
@example(ResponsesRequest, [1.0, 1.0], True)
def test_sparsity_p_is_used_or_refused(model, bounds_, value):
    minimum, maximum = bounds_
    settings = ServerSettings(maximum, minimum, maximum)
    asked = request(model, sparsity_p=value)
    if value is None:
        assert requested_sparsity_p(asked, settings) == maximum
    elif is_allowed(value, minimum, maximum):
        assert requested_sparsity_p(asked, settings) == value
    else:
        with pytest.raises(RequestRefused) as refused:
            requested_sparsity_p(asked, settings)
        check_refusal(refused.value, SPARSITY_P)
        assert refused.value.message.startswith("sparsity_p is ")


@given(numbers, numbers, numbers)
def test_bounds_of_the_operator_hold_together_or_stop_the_start(sparsity_p, minimum, maximum):
    settings, refused = outcome(InvalidServerSettings, ServerSettings, sparsity_p, minimum, maximum)
    if refused:
        assert str(refused).startswith("--")
        assert ", but " in str(refused)
    else:
        assert 0 <= settings.min_sparsity_p <= settings.sparsity_p <= settings.max_sparsity_p <= 1
        assert settings.sparsity_p > 0


@pytest.fixture(scope="module")
def served() -> OpenAIServingModels:
    """vLLM's object that knows what is served, with names and no engine."""
    serving = object.__new__(OpenAIServingModels)
    serving.base_model_paths = [BaseModelPath(name="demo", model_path="/m")]
    serving.registry = OpenAIModelRegistry(None, serving.base_model_paths)
    serving.lora_requests = {}
    return serving


@given(name=st.sampled_from(["demo", "", "other"]) | texts, value=numbers.map(repr) | texts)
@example(name="demo", value="nan")
@example(name="demo", value="0.9@p=0.8")
def test_a_model_name_chooses_a_value_is_refused_or_is_vllms(served, name, value):
    asked = f"{name}@p={value}"
    alias, refused = outcome(RequestRefused, alias_of, asked, served, ServerSettings())
    if refused:
        assert name == "demo"
        check_refusal(refused, "model")
    elif name == "demo" and "@p=" not in value:
        assert alias == ModelAlias(asked, "demo", float(value))
        assert 0 < alias.sparsity_p <= 1
    else:
        assert alias is None or asked.rpartition("@p=")[0] == "demo"


names = texts | st.builds("{}{}".format, st.sampled_from(["sparsity", "Sparsity_", "SPARSITY_P", "sparsity_p"]), texts)


@given(models_of_requests, names, json_values)
def test_a_field_called_like_ours_is_ours_or_refused(model, name, value):
    # A body with half of a surrogate pair is refused before it is parsed (test_encoding.py).
    assume(can_be_sent(name))
    assume(name not in {field for base in model.__mro__ for field in getattr(base, "model_fields", {})})
    asked = request(model, **{name: value})
    if not name.lower().startswith("sparsity") or name == SPARSITY_P:
        refuse_unknown_sparsity_fields(asked)
        return
    with pytest.raises(RequestRefused) as refused:
        refuse_unknown_sparsity_fields(asked)
    check_refusal(refused.value, refused.value.parameter)
    assert can_be_sent(refused.value.parameter)


@given(st.lists(st.dictionaries(st.sampled_from(["type", "text", "uuid"]), scalars, max_size=3), max_size=4))
def test_a_name_for_media_is_found_in_any_part(parts):
    message = {"role": "user", "content": parts}
    asked = ChatCompletionRequest.model_construct(messages=[message])
    named = [part["uuid"] for part in parts if part.get("uuid") is not None]
    if not named:
        refuse_media_uuids(asked)
        return
    with pytest.raises(RequestRefused) as refused:
        refuse_media_uuids(asked)
    check_refusal(refused.value, "uuid")
