"""Classes of advisories about model servers that no other test file is about; docs/security.md lists all of them."""

import json
import re
import socket
import stat
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from server import demo
from tests.server.harness import wait_until

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "what color ?"}], "max_tokens": 4}
PROMPT = {"model": "demo", "prompt": "what color ?", "max_tokens": 4}

CONFIG = json.loads((demo.checkpoint("demo") / "config.json").read_text())
ENDS = json.loads((demo.checkpoint("demo") / "generation_config.json").read_text())["eos_token_id"]
IMAGE, VIDEO, VISION_START = (CONFIG[f"{name}_token_id"] for name in ("image", "video", "vision_start"))


def post(server, path: str, body: dict) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=60)


@pytest.fixture(autouse=True)
def _engine_goes_on(server):
    yield
    assert post(server, COMPLETIONS, PROMPT).status_code == 200


def test_only_the_http_port_listens_and_the_engines_sockets_are_its_users_own(server):
    """vLLM's processes talk over ZMQ; what they take for messages must come from nobody else."""
    root = psutil.Process(server.process.pid)
    ports, paths = set(), set()
    for process in (root, *root.children(recursive=True)):
        listening = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
        assert {one.laddr.ip for one in listening} <= {"127.0.0.1", "::1"}, process.cmdline()
        ports |= {one.laddr.port for one in listening if process == root}
        paths |= {one.laddr for one in process.net_connections("unix") if str(one.laddr).startswith("/")}
    assert ports == {int(server.url.rpartition(":")[2])}
    assert paths, "the engine has sockets"
    for path in (Path(path) for path in paths):
        # Connecting to a socket needs the right to write to its file.
        assert not path.exists() or not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


def series(server) -> set[str]:
    """Names and labels of all samples."""
    lines = httpx.get(f"{server.url}/metrics", timeout=60).text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_strangers_add_no_series_to_the_metrics(server):
    def knock(number: int) -> None:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "PATCH"):
            httpx.request(method, f"{server.url}/{method}/{number}", headers={"X-Request-Id": f"{method}-{number}"})
        httpx.get(f"{server.url}/v1/responses/resp_{number}")
        for body in ({**PROMPT, "model": f"m{number}"}, {**PROMPT, "model": f"demo@p=0.{number}", "user": str(number)}):
            post(server, COMPLETIONS, body)
        post(server, COMPLETIONS, {**PROMPT, "sparsity_p": number})

    knock(90)
    before = series(server)
    for number in range(91, 99):
        knock(number)
    assert series(server) == before


def test_web_pages_cannot_ask(server):
    """Neither of another origin, nor by a request that browsers send without asking, nor under a name of their own."""
    origin = {"Origin": "https://page.example"}
    asks = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = httpx.options(f"{server.url}{CHAT}", headers=asks, timeout=60)
    assert "access-control-allow-origin" not in preflight.headers
    simple = {**origin, "Content-Type": "text/plain"}
    answer = httpx.post(f"{server.url}{CHAT}", content=json.dumps(QUESTION), headers=simple, timeout=60)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    rebound = httpx.post(f"{server.url}{CHAT}", json=QUESTION, headers={"Host": "page.example"}, timeout=60)
    assert (rebound.status_code, rebound.json()["error"]["param"]) == (421, "Host")


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template": "{{ ''.__class__.__mro__ }}"},
        {"chat_template": "{% for i in range(10**9) %}x{% endfor %}"},
        {"chat_template_kwargs": {"chat_template": "{{ 7 * 7 }}"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
def test_templates_do_not_come_from_requests(server, path, fields):
    """vLLM's own check."""
    response = post(server, path, {"messages": QUESTION["messages"], "model": "demo", **fields})
    assert response.status_code == 400
    assert "--trust-request-chat-template" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/tokenize"])
@pytest.mark.parametrize("arguments", [{"padding": "max_length", "max_length": 100_000}, {"tokenize": True}], ids=str)
def test_arguments_for_templates_do_not_reach_the_tokenizer(server, path, arguments):
    """A larger number would fill the memory with padding."""
    body = {**QUESTION, "input": "what color ?", "chat_template_kwargs": arguments}
    unread = ("input",) if path != "/v1/responses" else ("messages", "max_tokens")
    response = post(server, path, {name: value for name, value in body.items() if name not in unread})
    assert response.status_code == 400, response.text[:300]
    assert "is an argument of the tokenizer" in response.json()["error"]["message"]


def test_variables_of_templates_do(server):
    response = post(server, CHAT, {**QUESTION, "chat_template_kwargs": {"enable_thinking": False}})
    assert response.status_code == 200


def test_a_grammar_that_grows_slower_ends_and_others_are_answered_meanwhile(server):
    done = threading.Event()
    waits_s = []

    def ask_others() -> None:
        while not done.is_set():
            start_s = time.monotonic()
            assert post(server, COMPLETIONS, {**PROMPT, "max_tokens": 1}).status_code == 200
            waits_s.append(time.monotonic() - start_s)

    others = threading.Thread(target=ask_others)
    others.start()
    regex = "(" * 200 + "[a-z ]" + ")*" * 200
    # The grammar lets the answer end at any time, so the tokens that end it are out of reach.
    endless = {"max_tokens": 3000, "logit_bias": {str(token): -100 for token in ENDS}}
    body = {**QUESTION, **endless, "structured_outputs": {"regex": regex}}
    refused = post(server, CHAT, body)
    done.set()
    others.join()
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "structured_outputs"), refused.text
    assert "takes longer and longer to check" in refused.json()["error"]["message"]
    assert waits_s
    wait_until(server.is_idle, 30, "the end of the request")


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"grammar": "root ::= root"}},
        {"structured_outputs": {"regex": "blue"}, "allowed_token_ids": [0]},
    ],
    ids=["no-end", "no-token"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_grammar_without_an_answer_is_a_fault_of_the_request(server, fields, stream):
    response = post(server, CHAT, {**QUESTION, **fields, "stream": stream})
    assert response.status_code == (200 if stream else 400)
    *_, last, _ = [line for line in response.text.splitlines() if line] if stream else [response.text, "[DONE]"]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == 400
    assert "allows no further token" in error["message"]


@pytest.mark.parametrize("sparsity_p", [1, 0.5])
@pytest.mark.parametrize(
    "tokens",
    [[IMAGE], [5, IMAGE, IMAGE, 6], [VISION_START, IMAGE, 5], [VISION_START, VIDEO, VIDEO], [VISION_START]],
    ids=str,
)
def test_tokens_of_pictures_without_pictures_end_no_engine(server, tokens, sparsity_p):
    assert post(server, COMPLETIONS, {**PROMPT, "prompt": tokens, "sparsity_p": sparsity_p}).status_code in (200, 400)


def test_words_for_pictures_are_words(server):
    content = "<|vision_start|><|image_pad|><|vision_end|><|video_pad|> what color ?"
    body = {**QUESTION, "messages": [{"role": "user", "content": content}]}
    assert post(server, CHAT, body).status_code in (200, 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [-1]}, {"prompt": [10**6]}, {"prompt": [2**70]}, {"stop_token_ids": [10**6], "min_tokens": 2},
        {"stop_token_ids": [2**70]}, {"logit_bias": {"1000000": 1}}, {"logit_bias": {"-1": 1}},
        {"allowed_token_ids": [10**6]}, {"allowed_token_ids": []}, {"logprob_token_ids": [10**6], "logprobs": 1},
        {"priority": 2**70}, {"seed": 2**70}, {"truncate_prompt_tokens": -5}, {"temperature": -1},
        {"vllm_xargs": {"kv_transfer_params": "x"}},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range_end_no_engine(server, fields):
    response = post(server, COMPLETIONS, {**PROMPT, **fields})
    assert response.status_code == 400, response.text[:300]


@pytest.mark.parametrize("fields", [{"prompt_embeds": "AAAA"}, {"prompt_embeds": ["gASVAAAAAAAAAC4="]}], ids=str)
def test_embeddings_of_prompts_are_refused(server, fields):
    """vLLM's own check: they would be unpickled."""
    response = post(server, COMPLETIONS, {"model": "demo", **fields})
    assert response.status_code == 400
    assert re.search("prompt.embeds", response.json()["error"]["message"])


def test_parameters_of_connectors_reach_nobody(server):
    plain = post(server, COMPLETIONS, {**PROMPT, "temperature": 0}).json()
    forged = {"winnow": {"sparsity_p": 7}, "do_remote_decode": True}
    answer = post(server, COMPLETIONS, {**PROMPT, "temperature": 0, "kv_transfer_params": forged}).json()
    assert answer["choices"][0]["text"] == plain["choices"][0]["text"]
    assert answer["usage"]["sparsity"] == plain["usage"]["sparsity"]
    assert not answer.get("kv_transfer_params")


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "mcp", "server_label": "x", "server_url": "URL"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "URL"}]}]},
    ],
    ids=["mcp", "file"],
)
def test_addresses_outside_of_media_are_not_asked(server, fields):
    """vLLM has no code that fetches them; a later one must not go around the gate unseen."""
    body = {"model": "demo", "input": "what color ?", "max_output_tokens": 4, **fields}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        response = post(server, "/v1/responses", json.loads(json.dumps(body).replace("URL", url)))
        assert response.status_code in (200, 400), response.text[:300]
        listener.settimeout(0.5)
        with pytest.raises(TimeoutError):
            listener.accept()
