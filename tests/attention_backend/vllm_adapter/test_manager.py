"""The fast path of the KV cache manager does what vLLM's own manager does, block for block."""

import pytest
import torch
from vllm import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

from attention_backend.plugin import register
from attention_backend.vllm_adapter.manager import TopPKVCacheManager
from attention_backend.vllm_adapter.spec import TopPSpec

BLOCK_SIZE = 16


def manager(num_blocks, num_layers=3, enable_caching=True):
    register()
    init_none_hash(sha256)
    groups = [
        KVCacheGroupSpec(
            [f"model.layers.{layer}.attn"],
            TopPSpec(block_size=BLOCK_SIZE, num_kv_heads=2, head_size=32, dtype=torch.float32, layer=layer),
        )
        for layer in range(num_layers)
    ]
    return KVCacheManager(
        KVCacheConfig(num_blocks=num_blocks, kv_cache_tensors=[], kv_cache_groups=groups),
        max_model_len=512,
        scheduler_block_size=BLOCK_SIZE,
        hash_block_size=BLOCK_SIZE,
        enable_caching=enable_caching,
    )


def request(num_tokens, sparsity_p=1.0):
    made = Request(
        request_id="r",
        prompt_token_ids=list(range(num_tokens)),
        sampling_params=SamplingParams(max_tokens=200, extra_args={"sparsity_p": sparsity_p}),
        pooling_params=None,
        block_hasher=get_request_block_hasher(BLOCK_SIZE, sha256),
    )
    made.skip_reading_prefix_cache = sparsity_p < 1.0  # as the scheduler does
    return made


def state(manager):
    rows = [
        [(block.block_id, block.block_hash) for block in group.req_to_blocks["r"]]
        for group in manager.coordinator.single_type_managers
    ]
    return rows, manager.block_pool.get_num_free_blocks()


@pytest.mark.parametrize("enable_caching", [True, False])
@pytest.mark.parametrize("num_prompt_tokens", [1, 15, 16, 17, 100])
def test_decoding_equals_vllm(num_prompt_tokens, enable_caching):
    own, stock = (manager(100, enable_caching=enable_caching) for _ in range(2))
    own = TopPKVCacheManager.take_over(own)
    requests = [request(num_prompt_tokens) for _ in range(2)]
    for step in range(70):
        num_new_tokens = num_prompt_tokens if step == 0 else 1
        allocated = []
        for candidate, each in zip((own, stock), requests, strict=True):
            blocks = candidate.allocate_slots(each, num_new_tokens)
            allocated.append(blocks.get_block_ids(allow_none=True))
            each.num_computed_tokens += num_new_tokens
            each.append_output_token_ids(1000 + step)
        assert allocated[0] == allocated[1]
        assert state(own) == state(stock)


def test_full_pool_refuses_without_a_trace():
    own = TopPKVCacheManager.take_over(manager(1 + 3 * 2 + 2))
    r = request(2 * BLOCK_SIZE)
    own.allocate_slots(r, 2 * BLOCK_SIZE)
    r.num_computed_tokens = 2 * BLOCK_SIZE
    r.append_output_token_ids(1)
    before = state(own)
    assert own.allocate_slots(r, 1) is None
    assert state(own) == before


def test_sparse_blocks_are_never_hashed():
    own = TopPKVCacheManager.take_over(manager(100))
    own.allocate_slots(request(4 * BLOCK_SIZE, sparsity_p=0.9), 4 * BLOCK_SIZE)
    assert all(block_hash is None for row in state(own)[0] for _, block_hash in row)


def test_freed_range_is_the_gap():
    own = TopPKVCacheManager.take_over(manager(100))
    own.allocate_slots(request(100, sparsity_p=0.9), 100)
    free = own.block_pool.get_num_free_blocks()
    layer = own.coordinator.single_type_managers[1]
    layer.free_pruned_blocks("r", 100, 20)
    assert [block.is_null for block in layer.req_to_blocks["r"]] == [False] * 2 + [True] * 4 + [False]
    assert own.block_pool.get_num_free_blocks() == free + 4
