"""What `helm test` asks of a running release: `python3 ask.py models|chat|stream|sparsity`. Needs only Python.

SERVER is its address, MODEL the served model's name, SPARSITY_P a value that requests may ask for, TIMEOUT_S what one
request may take; OPENAI_API_KEY is the key, where the server asks for one.
"""

import json
import os
import sys
import urllib.error
import urllib.request

MODEL = os.environ["MODEL"]
NUM_TOKENS = 16


def ask(path: str, body: dict | None = None, *, expected: int = 200) -> str:
    """What the server answers to one request; another status than the expected one ends the check with its words."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["SERVER"] + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=float(os.environ["TIMEOUT_S"])) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    except OSError as error:
        sys.exit(f"{request.full_url} does not answer: {error}")
    if status != expected:
        sys.exit(f"HTTP {status} instead of {expected} on {path}: {text}")
    return text


def ask_chat(*, expected: int = 200, **fields) -> str:
    """The answer to a chat request of a fixed number of tokens."""
    messages = [{"role": "user", "content": "Who are you?"}]
    length = {"max_tokens": NUM_TOKENS, "ignore_eos": True, "temperature": 0}
    return ask("/v1/chat/completions", {"model": MODEL, "messages": messages, **length, **fields}, expected=expected)


def models() -> str:
    """The served model is on the list."""
    names = [model["id"] for model in json.loads(ask("/v1/models"))["data"]]
    if MODEL not in names:
        sys.exit(f"{MODEL} is not among the served models {names}")
    return f"served: {', '.join(names)}"


def chat() -> str:
    """A chat request gets the tokens it asks for."""
    answer = json.loads(ask_chat())
    if answer["usage"]["completion_tokens"] != NUM_TOKENS:
        sys.exit(f"{NUM_TOKENS} tokens were asked for, but the answer is {answer}")
    return repr(answer["choices"][0]["message"]["content"])


def stream() -> str:
    """A stream brings its tokens in several events, then the usage, then the closing mark."""
    lines = ask_chat(stream=True, stream_options={"include_usage": True}).splitlines()
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    if len(events) < 4 or events[-1] != "[DONE]":
        sys.exit(f"the stream does not end as it should: {events[-4:]}")
    usage = json.loads(events[-2])["usage"]
    if usage["completion_tokens"] != NUM_TOKENS:
        sys.exit(f"{NUM_TOKENS} tokens were asked for, but the stream counts {usage}")
    return f"{len(events)} events, {NUM_TOKENS} tokens"


def sparsity() -> str:
    """A request's `sparsity_p` reaches the engine, and one out of range is refused."""
    wanted = float(os.environ["SPARSITY_P"])
    report = json.loads(ask_chat(sparsity_p=wanted))["usage"]["sparsity"]
    if report["sparsity_p"] != wanted or not 0 < report["token_ratio"] <= 1:
        sys.exit(f"sparsity_p {wanted} was asked for, but the report says {report}")
    ask_chat(sparsity_p=1.5, expected=400)
    return f"token_ratio {report['token_ratio']:.3f}, kv_ratio {report['kv_ratio']:.3f}"


CHECKS = {"models": models, "chat": chat, "stream": stream, "sparsity": sparsity}

if __name__ == "__main__":
    print(CHECKS[sys.argv[1]](), flush=True)
