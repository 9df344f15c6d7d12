"""/v1/chat/completions through the official SDK: pictures, streams, tools, JSON schema, logprobs, n, videos."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.server.harness import DEFAULT_SPARSITY_P, MIN_SPARSITY_P, NUM_LAYERS, question

FIELDS = {"sparsity_p", "selection", "token_ratio", "kv_ratio", "kept_tokens_per_layer"}


def ask(client: openai.OpenAI, messages: list[dict], sparsity_p: float | None = None, **options):
    """Greedy answer of at most eight tokens, unless told otherwise."""
    extra_body = {**options.pop("extra_body", {}), **({} if sparsity_p is None else {"sparsity_p": sparsity_p})}
    defaults = {"model": "demo", "max_tokens": 8, "temperature": 0}
    return client.chat.completions.create(messages=messages, extra_body=extra_body, **{**defaults, **options})


def check_sparse(usage, sparsity_p: float) -> dict:
    """The figures agree with each other."""
    sparsity = usage.sparsity
    assert set(sparsity) == FIELDS
    assert (sparsity["sparsity_p"], sparsity["selection"]) == (sparsity_p, "zipvl")
    kept = sparsity["kept_tokens_per_layer"]
    assert len(kept) == NUM_LAYERS
    assert all(4 <= num_kept <= usage.prompt_tokens for num_kept in kept)
    assert sparsity["token_ratio"] == pytest.approx(sum(kept) / (NUM_LAYERS * usage.prompt_tokens))
    assert 0 < sparsity["kv_ratio"] <= 1
    return sparsity


@pytest.mark.parametrize("wish", [1, "yes"])
def test_a_wish_for_kept_masks_changes_nothing(client, about_picture, wish):
    answer = ask(client, about_picture, 0.5, extra_body={"vllm_xargs": {"winnow_return_kept": wish}})
    assert check_sparse(answer.usage, 0.5) == check_sparse(ask(client, about_picture, 0.5).usage, 0.5)
    assert not getattr(answer, "kv_transfer_params", None)


def test_picture_with_its_own_sparsity_p(client, about_picture):
    answer = ask(client, about_picture, 0.5)
    sparsity = check_sparse(answer.usage, 0.5)
    assert sparsity["token_ratio"] < 0.9
    assert answer.kv_transfer_params is None


def test_absent_and_null_mean_the_servers_default(client, about_picture):
    check_sparse(ask(client, about_picture).usage, DEFAULT_SPARSITY_P)
    check_sparse(ask(client, about_picture, extra_body={"sparsity_p": None}).usage, DEFAULT_SPARSITY_P)


def test_one_is_dense(client, about_picture):
    usage = ask(client, about_picture, 1).usage
    assert usage.sparsity == {
        "sparsity_p": 1.0, "selection": "zipvl", "token_ratio": 1.0, "kv_ratio": 1.0,
        "kept_tokens_per_layer": [usage.prompt_tokens] * NUM_LAYERS,
    }  # fmt: skip


def test_kept_tokens_grow_with_sparsity_p(client, about_picture):
    ratios = [ask(client, about_picture, value).usage.sparsity["token_ratio"] for value in (0.3, 0.6, 0.9, 1.0)]
    assert ratios == sorted(ratios)
    assert ratios[0] < ratios[-1]


def test_stream_has_the_figures_in_its_last_chunk_only(client, about_picture):
    whole = ask(client, about_picture, 0.6, max_tokens=12)
    *chunks, last = ask(client, about_picture, 0.6, max_tokens=12, stream=True, stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.sparsity == whole.usage.sparsity
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content


def test_stream_without_usage_stays_without(client, about_picture):
    chunks = list(ask(client, about_picture, 0.6, stream=True))
    assert all(chunk.usage is None for chunk in chunks)


def test_stream_with_continuous_usage_has_the_figures_at_the_end(client, about_picture):
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, last = ask(client, about_picture, 0.6, stream=True, stream_options=options)
    assert not any(hasattr(chunk.usage, "sparsity") for chunk in chunks)
    check_sparse(last.usage, 0.6)


def test_several_choices_prune_alike_and_count_once(client, about_picture):
    one = ask(client, about_picture, 0.6)
    two = ask(client, about_picture, 0.6, n=2, temperature=1)
    assert len(two.choices) == 2
    assert two.usage.sparsity == one.usage.sparsity


def test_stop_string_keeps_the_figures(client, about_picture):
    text = ask(client, about_picture, 0.6, max_tokens=32).choices[0].message.content
    stopped = ask(client, about_picture, 0.6, max_tokens=32, stop=[text[1:3] or "x"])
    check_sparse(stopped.usage, 0.6)


TOOL = {
    "type": "function",
    "function": {
        "name": "paint",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"color": {"type": "string", "enum": ["red", "blue"]}},
            "required": ["color"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def no_blanks(server) -> dict[str, int]:
    """`logit_bias` against blanks, with which a model that never saw JSON fills it up for ever."""
    tokens = (
        httpx.post(f"{server.url}/tokenize", json={"prompt": blank, "add_special_tokens": False}).json()["tokens"]
        for blank in (" ", "\n", "\t")
    )
    return {str(token): -100 for tokens_of_blank in tokens for token in tokens_of_blank}


@pytest.mark.parametrize("choice", [{"type": "function", "function": {"name": "paint"}}, "required"], ids=str)
def test_tools(client, about_picture, no_blanks, choice):
    answer = ask(
        client, about_picture, 0.6, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False, max_tokens=128,
        logit_bias=no_blanks,
    )  # fmt: skip
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "paint"
    assert json.loads(call.function.arguments)["color"] in ("red", "blue")
    check_sparse(answer.usage, 0.6)


def test_streamed_tool_call(client, about_picture, no_blanks):
    *chunks, last = ask(
        client, about_picture, 0.6, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, max_tokens=128,
        logit_bias=no_blanks, stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].function.name == "paint"
    assert json.loads("".join(call.function.arguments or "" for call in calls))["color"] in ("red", "blue")
    check_sparse(last.usage, 0.6)


def test_json_schema(client, about_picture):
    schema = TOOL["function"]["parameters"]
    answer = ask(
        client, about_picture, 0.6, max_tokens=64,
        response_format={"type": "json_schema", "json_schema": {"name": "color", "schema": schema, "strict": True}},
    )  # fmt: skip
    assert json.loads(answer.choices[0].message.content)["color"] in ("red", "blue")
    check_sparse(answer.usage, 0.6)


def test_logprobs(client, about_picture):
    answer = ask(client, about_picture, 0.6, logprobs=True, top_logprobs=2, max_tokens=2)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in content)


def test_several_pictures(client, picture_url):
    picture = {"type": "image_url", "image_url": {"url": picture_url}}
    one, two = (ask(client, question(*[picture] * count), 0.6).usage for count in (1, 2))
    check_sparse(two, 0.6)
    assert two.prompt_tokens > one.prompt_tokens + 50


def test_video(client, video_url):
    answer = ask(client, question({"type": "video_url", "video_url": {"url": video_url}}), 0.6)
    check_sparse(answer.usage, 0.6)


def test_clients_at_once_get_what_they_get_alone(client, about_picture):
    values = [MIN_SPARSITY_P, 0.5, 0.9, 1.0]

    def answer(sparsity_p):
        response = ask(client, about_picture, sparsity_p, max_tokens=24)
        return response.choices[0].message.content, response.usage.sparsity

    alone = [answer(value) for value in values]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, values * 4))
    assert together == alone * 4


def test_prompts_in_a_batch(server, about_picture):
    body = {"model": "demo", "messages": [about_picture] * 2, "max_tokens": 4, "sparsity_p": 0.6}
    usage = server.post("chat/completions/batch", json.dumps(body)).json()["usage"]
    assert usage["sparsity"]["sparsity_p"] == 0.6
    assert sum(usage["sparsity"]["kept_tokens_per_layer"]) < NUM_LAYERS * usage["prompt_tokens"]


def test_beam_search_runs_dense_and_says_nothing_about_pruning(client, about_picture):
    answer = ask(client, about_picture, 1.0, n=2, max_tokens=3, extra_body={"use_beam_search": True})
    assert len(answer.choices) == 2
    assert not hasattr(answer.usage, "sparsity")
