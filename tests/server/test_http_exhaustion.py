"""More requests than the KV cache holds: some are preempted, all are answered as they are alone, all blocks return."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.server.harness import NUM_LAYERS, Server, question, running_server, wait_until

BLOCK_SIZE = 32
MAX_MODEL_LEN = 1024
# Two prompts of the longest kind, where each layer has blocks of its own.
NUM_BLOCKS = 2 * NUM_LAYERS * MAX_MODEL_LEN // BLOCK_SIZE + 1
NUM_REQUESTS = 12
NUM_TOKENS = 300
IDLE_WITHIN_S = 60


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Server]:
    """A server whose cache holds two long requests."""
    log = tmp_path_factory.mktemp("small") / "log.txt"
    with running_server(
        log, num_gpu_blocks_override=NUM_BLOCKS, max_model_len=MAX_MODEL_LEN, max_num_seqs=NUM_REQUESTS
    ) as server:
        yield server


def bodies(picture_url: str) -> list[dict]:
    """Mixed: with and without a picture, dense and sparse."""
    draw = random.Random(7)
    about_picture = question({"type": "image_url", "image_url": {"url": picture_url}})
    return [
        {
            "model": "demo",
            "messages": draw.choice([about_picture, question(text="count " * draw.randint(1, 200))]),
            "max_tokens": NUM_TOKENS,
            "ignore_eos": True,
            "temperature": 0,
            "sparsity_p": draw.choice([0.4, 0.9, 1.0]),
        }
        for _ in range(NUM_REQUESTS)
    ]


def answer(server: Server, body: dict) -> tuple[int, str, dict]:
    response = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=300)
    assert response.status_code == 200, response.text
    usage = response.json()["usage"]
    return usage["completion_tokens"], response.json()["choices"][0]["message"]["content"], usage["sparsity"]


def test_all_are_answered_as_they_are_alone(small, picture_url):
    asked = bodies(picture_url)
    alone = [answer(small, body) for body in asked]
    assert small.metric("vllm:num_preemptions_total") == 0
    with ThreadPoolExecutor(NUM_REQUESTS) as pool:
        together = list(pool.map(lambda body: answer(small, body), asked))
    assert small.metric("vllm:num_preemptions_total") > 0
    assert together == alone
    wait_until(small.is_idle, IDLE_WITHIN_S, "the return of all blocks")


def test_a_prompt_that_no_cache_holds_is_refused_and_the_next_one_is_answered(small):
    body = {"model": "demo", "prompt": [5] * (MAX_MODEL_LEN + 1), "max_tokens": 1}
    assert httpx.post(f"{small.url}/v1/completions", json=body, timeout=60).status_code == 400
    answer(small, {"model": "demo", "messages": question(), "max_tokens": 2})
