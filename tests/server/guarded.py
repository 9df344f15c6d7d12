"""Callers, options and calls of the server that the tests of access and limits share."""

import hashlib

import httpx

from tests.server.harness import Server

KEYS = {name: f"{name}-0123456789abcdef" for name in ("plain", "spare", "narrow", "rated", "single", "operator")}

KEY_FILE = f"""
[plain]
keys = ["{KEYS["plain"]}", "{KEYS["spare"]}"]

[narrow]
keys = ["sha256:{hashlib.sha256(KEYS["narrow"].encode()).hexdigest()}"]
sparsity_p = 0.8
min_sparsity_p = 0.5
max_sparsity_p = 0.9

[rated]
keys = ["{KEYS["rated"]}"]
requests_per_minute = 3

[single]
keys = ["{KEYS["single"]}"]
concurrent_requests = 1

[operator]
keys = ["{KEYS["operator"]}"]
operator = true
"""

MAX_NUM_SEQS, MAX_QUEUED = 4, 4
MAX_REQUEST_S, MAX_UPLOAD_S = 6, 2
MAX_PROMPT_TOKENS, MAX_OUTPUT_TOKENS = 1500, 3500

OPTIONS = {
    "enable_routes": ["/invocations", "/is_scaling_elastic_ep"],
    "metrics_access": "open",
    "max_num_seqs": MAX_NUM_SEQS,
    "max_queued_requests": MAX_QUEUED,
    "max_request_s": MAX_REQUEST_S,
    "max_upload_s": MAX_UPLOAD_S,
    "max_body_mib": 1,
    "max_sequences": 8,
    "max_text_chars": 200_000,
    "max_prompt_tokens": MAX_PROMPT_TOKENS,
    "max_output_tokens": MAX_OUTPUT_TOKENS,
    "max_list_items": 16,
    "max_schema_kib": 1,
    "max_regex_chars": 64,
}

QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "what color ?"}], "max_tokens": 2}
# Takes longer than MAX_REQUEST_S.
LONG = {**QUESTION, "max_tokens": MAX_OUTPUT_TOKENS, "ignore_eos": True, "n": 4, "temperature": 1}

# The same on /v1/responses, which has neither `n` nor `ignore_eos`: log-probabilities of others slow it down, and the
# tokens that end an answer are out of reach.
ENDLESS_RESPONSE = {
    "model": "demo",
    "input": "what color ?",
    "max_output_tokens": MAX_OUTPUT_TOKENS,
    "logit_bias": {"459": -100, "460": -100},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 20,
}


def authorization(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def ask(server: Server, path: str, body: dict | None = None, *, key: str = "plain", **options) -> httpx.Response:
    """POST a body as a caller."""
    return httpx.post(f"{server.url}{path}", json=body or QUESTION, headers=authorization(key), timeout=60, **options)
