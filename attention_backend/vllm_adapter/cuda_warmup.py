"""Compile the kernels of sparse prefill before the first request, which would wait seconds for them."""

from types import SimpleNamespace

import numpy as np
import torch
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import Attention

from attention_backend.ops.select.kernel import LONGEST_SHORT_PROMPT
from attention_backend.vllm_adapter.cuda_backend import TopPStepMetadata
from attention_backend.vllm_adapter.cuda_context import CUDAPruningContext


@torch.inference_mode()
def warm_up(layer: Attention, context: CUDAPruningContext, vllm_config: VllmConfig) -> None:
    """Run one made-up sparse prompt of every length that has kernels of its own through one layer.

    What it stores goes to vLLM's null block, like that of vLLM's own dummy runs.

    Args:
        layer: an attention layer of the decoder, its KV cache bound.
        context: the worker's pruning state.
        vllm_config: of the engine.
    """
    dtype, device = vllm_config.model_config.dtype, context.device
    block_size = vllm_config.cache_config.block_size
    longest = vllm_config.scheduler_config.max_num_batched_tokens
    for length in sorted({min(LONGEST_SHORT_PROMPT, longest), min(LONGEST_SHORT_PROMPT + 1, longest)}):
        one = np.array([length], np.int32)
        prefills = context.plan_prefills(
            request_ids=["warm-up"],
            token_start=np.zeros(1, np.int32),
            num_tokens=one,
            num_prompt_tokens=one,
            rows=np.zeros(1, np.int32),
            sparsity_p=np.array([0.5]),
            returns_kept=np.array([False]),
            has_others=False,
        )
        null_blocks = torch.zeros(1, -(-length // block_size), dtype=torch.int32, device=device)
        stock = SimpleNamespace(block_table=null_blocks)
        step = TopPStepMetadata(stock, prefills, group=0, block_size=block_size, context=context)
        rows = torch.zeros(length, layer.num_heads, layer.head_size, dtype=dtype, device=device)
        key = torch.zeros(length, layer.num_kv_heads, layer.head_size, dtype=dtype, device=device)
        layer.impl.forward(layer, rows, key, key, layer.kv_cache, step, torch.empty_like(rows))
    context.removals[0] = 0
