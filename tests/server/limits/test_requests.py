"""What one request may ask for, on vLLM's own request models and sampling parameters."""

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import BatchChatCompletionRequest, ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from server.errors import InvalidServerSettings, RequestRefused
from server.limits.fields import refuse_unknown_sparsity_fields
from server.limits.requests import check_prompt_tokens, check_request, limited
from server.limits.settings import RequestLimits

MESSAGES = [{"role": "user", "content": "hello"}]
LIMITS = RequestLimits(
    max_sequences=8, max_output_tokens=100, max_prompt_tokens=50, max_list_items=4, max_schema_kib=1, max_regex_chars=64
)


def chat(**fields) -> ChatCompletionRequest:
    return ChatCompletionRequest(messages=MESSAGES, **fields)


def completion(prompt="hello", **fields) -> CompletionRequest:
    return CompletionRequest(prompt=prompt, **fields)


def batch(num_conversations: int, **fields) -> BatchChatCompletionRequest:
    return BatchChatCompletionRequest(messages=[MESSAGES] * num_conversations, **fields)


@pytest.mark.parametrize(
    "request_",
    [
        chat(), chat(n=8), chat(n=None, max_tokens=100), completion(n=8), completion(["a"] * 8), completion([1] * 40),
        completion([[1, 2]] * 4, n=2), batch(8), ResponsesRequest(input="x", max_output_tokens=100),
        chat(stop=["x" * 1024]), chat(logit_bias=dict.fromkeys("1234", 1.0)), chat(stop_token_ids=[1, 2, 3, 4]),
    ],
    ids=range(12),
)  # fmt: skip
def test_requests_within_the_limits_pass(request_):
    check_request(request_, LIMITS)


@pytest.mark.parametrize(
    ("request_", "param", "sentence"),
    [
        (chat(n=9), "n", r"n is 9 and the request has 1 prompt\(s\), but one request may ask for 8 sequences"),
        (chat(n=10_000), "n", "n is 10000"),
        (completion(n=9, use_beam_search=True), "n", "n is 9"),
        (completion(["a"] * 9), "prompt", r"n is 1 and the request has 9 prompt\(s\)"),
        (completion([[1, 2]] * 5, n=2), "n", r"n is 2 and the request has 5 prompt\(s\)"),
        (batch(9), "prompt", "9 prompt"),
        (chat(max_tokens=101), "max_tokens", "max_tokens is 101, but an answer may have 100 tokens. Ask for fewer"),
        (chat(max_completion_tokens=101), "max_completion_tokens", "max_completion_tokens is 101"),
        (completion(max_tokens=101), "max_tokens", "max_tokens is 101"),
        (completion(min_tokens=101), "min_tokens", "min_tokens is 101"),
        (ResponsesRequest(input="x", max_output_tokens=101), "max_output_tokens", "max_output_tokens is 101"),
        (chat(stop="x" * 1025), "stop", "stop has a string of 1025 characters"),
        (completion(stop=["a", "x" * 1025]), "stop", "stop has a string of 1025 characters"),
        (chat(logit_bias=dict.fromkeys("12345", 1.0)), "logit_bias", "logit_bias has 5 entries, but may have 4"),
        (completion(stop_token_ids=[1] * 5), "stop_token_ids", "raise --max-list-items"),
        (chat(allowed_token_ids=[1] * 5), "allowed_token_ids", "allowed_token_ids has 5 entries"),
        (chat(bad_words=["a"] * 5), "bad_words", "bad_words has 5 entries"),
        (chat(logprobs=True, logprob_token_ids=[1] * 5), "logprob_token_ids", "logprob_token_ids has 5 entries"),
        (ResponsesRequest(input="x", logit_bias=dict.fromkeys("12345", 1.0)), "logit_bias", "logit_bias has 5"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_others_are_refused_with_the_field_at_fault(request_, param, sentence):
    with pytest.raises(RequestRefused, match=sentence) as refused:
        check_request(request_, LIMITS)
    assert refused.value.parameter == param


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"n": 9, "temperature": 1}, "n is 9, but one request may ask for 8 sequences"),
        ({"max_tokens": 101}, "max_tokens is 101, but an answer may have 100 tokens"),
        ({"stop": ["x" * 1025]}, "stop has a string"),
        ({"stop_token_ids": [1, 2, 3, 4, 5]}, "stop_token_ids has 5 entries"),
        ({"structured_outputs": StructuredOutputsParams(regex="a" * 65)}, "regular expression of 65 characters"),
    ],
    ids=["n", "max_tokens", "stop", "stop_token_ids", "structure"],
)
def test_routes_without_the_first_check_are_limited_at_the_engine(fields, sentence):
    with pytest.raises(RequestRefused, match=sentence):
        limited(SamplingParams(**fields), LIMITS, is_checked=False)


def test_the_rest_of_the_context_is_shortened_to_the_limit():
    params = SamplingParams(max_tokens=4000)
    assert limited(params, LIMITS, is_checked=True).max_tokens == 100
    assert params.max_tokens == 4000
    assert limited(params, RequestLimits(), is_checked=True) is params


def test_prompts_have_a_limit():
    check_prompt_tokens(50, LIMITS)
    check_prompt_tokens(10**6, RequestLimits())
    with pytest.raises(RequestRefused, match=r"The prompt has 51 tokens, pictures included, but may have 50\."):
        check_prompt_tokens(51, LIMITS)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sparsity_q": 0.9}, "sparsity_q"),
        ({"sparsity": 0.9}, "sparsity"),
        ({"sparsity_p": 0.9, "sparsity_selection": "keys"}, "sparsity_selection"),
        ({"SPARSITY_P": 0.9}, "SPARSITY_P"),
        ({"extra_body": {"sparsity_p": 0.9}}, "extra_body"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "make",
    [chat, completion, lambda **fields: batch(1, **fields), lambda **fields: ResponsesRequest(input="x", **fields)],
)
def test_misspelt_fields_are_refused(make, fields, param):
    with pytest.raises(RequestRefused) as refused:
        refuse_unknown_sparsity_fields(make(**fields))
    assert refused.value.parameter == param


def test_the_right_field_and_others_extras_pass():
    refuse_unknown_sparsity_fields(chat(sparsity_p=0.9, extra_body={"top_k": 1}, whatever=1))


@pytest.mark.parametrize(
    "fields",
    [{"max_body_mib": 0}, {"max_bodies_mib": 0}, {"max_request_s": 0.0}, {"max_sequences": 0},
     {"max_output_tokens": -1}, {"max_regex_chars": 0}, {"max_upload_s": float("nan")}],
    ids=str,
)  # fmt: skip
def test_limits_out_of_range_stop_the_start(fields):
    with pytest.raises(InvalidServerSettings, match=r"^--max-[a-z-]+ is .*, but must lie between"):
        RequestLimits(**fields)


def test_all_bodies_together_have_room_for_one():
    assert RequestLimits(max_body_mib=64, max_bodies_mib=64).max_bodies_bytes == 64 << 20
    with pytest.raises(InvalidServerSettings, match=r"^--max-bodies-mib is 63 and --max-body-mib is 64, but all"):
        RequestLimits(max_body_mib=64, max_bodies_mib=63)
