"""/metrics moves by what `usage.sparsity` says."""

import re
import time

import httpx
import pytest

COUNTERS = (
    "winnow_freed_tokens_total",
    "winnow_prompt_blocks_total",
    "winnow_freed_blocks_total",
    "winnow_token_ratio_count",
    "winnow_token_ratio_sum",
    "winnow_kv_ratio_count",
    "winnow_kv_ratio_sum",
)
BLOCK_SIZE = 32


def readings(server) -> dict[str, float]:
    values = {name: server.metric(name, model_name="demo") for name in COUNTERS}
    for mode in ("sparse", "dense"):
        values[mode] = server.metric("winnow_requests_total", model_name="demo", mode=mode)
    return values


def moved(server, before: dict[str, float]) -> dict[str, float]:
    return {name: value - before[name] for name, value in readings(server).items()}


def ask(client, messages, sparsity_p, **options):
    return client.chat.completions.create(
        model="demo", messages=messages, max_tokens=4, extra_body={"sparsity_p": sparsity_p}, **options
    ).usage


@pytest.mark.parametrize("n", [1, 3])
def test_sparse_requests(server, client, about_picture, n):
    before = readings(server)
    usage = ask(client, about_picture, 0.4, n=n, temperature=1)
    sparsity, kept = usage.sparsity, usage.sparsity["kept_tokens_per_layer"]
    num_dense_blocks = len(kept) * -(-usage.prompt_tokens // BLOCK_SIZE)
    assert sparsity["kv_ratio"] < 1
    assert moved(server, before) == pytest.approx({
        "sparse": n,
        "dense": 0,
        "winnow_freed_tokens_total": n * (len(kept) * usage.prompt_tokens - sum(kept)),
        "winnow_prompt_blocks_total": n * num_dense_blocks,
        "winnow_freed_blocks_total": n * (1 - sparsity["kv_ratio"]) * num_dense_blocks,
        "winnow_token_ratio_count": n,
        "winnow_token_ratio_sum": n * sparsity["token_ratio"],
        "winnow_kv_ratio_count": n,
        "winnow_kv_ratio_sum": n * sparsity["kv_ratio"],
    })  # fmt: skip


def test_dense_requests_only_count(server, client, about_picture):
    before = readings(server)
    ask(client, about_picture, 1)
    assert moved(server, before) == pytest.approx({**dict.fromkeys(COUNTERS, 0), "sparse": 0, "dense": 1})


def test_a_request_that_ends_at_a_stop_string_counts_once(server, client, about_picture):
    text = client.chat.completions.create(
        model="demo", messages=about_picture, max_tokens=16, temperature=0, extra_body={"sparsity_p": 0.4}
    ).choices[0].message.content  # fmt: skip
    before = readings(server)
    ask(client, about_picture, 0.4, temperature=0, stop=[text[:1] or "x"])
    assert moved(server, before)["sparse"] == 1


def test_freed_blocks_are_counted_for_as_long_as_the_answer_takes(server, client, about_picture):
    name = "winnow_freed_block_seconds_total"
    before, freed_before, start_s = server.metric(name), server.metric("winnow_freed_blocks_total"), time.monotonic()
    client.chat.completions.create(
        model="demo", messages=about_picture, max_tokens=4, extra_body={"sparsity_p": 0.4, "min_tokens": 4}
    )
    wall_s, freed_blocks = time.monotonic() - start_s, server.metric("winnow_freed_blocks_total") - freed_before
    assert 0 < server.metric(name) - before < freed_blocks * wall_s


def test_the_size_of_the_cache_is_vllms(server):
    config = re.search(r"^vllm:cache_config_info\{.*\}", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)[0]
    labels = dict(re.findall(r'(\w+)="([^"]*)"', config))
    assert server.metric("winnow_kv_cache_blocks", model_name="demo") == float(labels["num_gpu_blocks"])
    tokens = server.metric("winnow_kv_cache_dense_tokens", model_name="demo")
    assert tokens == pytest.approx(float(labels["kv_cache_size_tokens"]), rel=0.01)


def test_vllms_metrics_stay_on_the_same_page(server):
    assert server.metric("vllm:request_success_total") > 0
    assert "winnow_feedback_dropped_total{" in httpx.get(f"{server.url}/metrics").text
