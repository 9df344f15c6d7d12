"""The stages of one layer's sparse prefill as the adapter strings the launchers together, each callable alone."""

from functools import partial

import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.attend.packed import attend_packed
from attention_backend.ops.compact.kernel import compact_slots_varlen
from attention_backend.ops.estimate.kernel import estimate_importance_varlen
from attention_backend.ops.select.kernel import select_tokens_varlen
from benchmarks.gpu.prompts import BLOCK_SIZE, PrefillStep


def estimate(step: PrefillStep) -> torch.Tensor:
    """Importance, [2, num_tokens], float32."""
    return estimate_importance_varlen(step.query, step.key, step.batch, step.probes, step.num_probes, step.scale)


def select(
    step: PrefillStep, importance: torch.Tensor, fixed_token_ratio: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rank of every token and number kept of every prompt, with default options."""
    config = SparsityConfig()
    return select_tokens_varlen(
        importance, step.batch, config.num_sink_tokens, config.num_recent_tokens, fixed_token_ratio=fixed_token_ratio
    )


def attend_zipvl_step(step: PrefillStep, rank: torch.Tensor, num_kept: torch.Tensor, out: torch.Tensor) -> None:
    """Gather, FlashAttention over the packed rows, scatter."""
    _attend(step, rank, num_kept, out, "zipvl")


def attend_keys_step(step: PrefillStep, rank: torch.Tensor, num_kept: torch.Tensor, out: torch.Tensor) -> None:
    """Every query over the kept keys."""
    _attend(step, rank, num_kept, out, "keys")


def _attend(step: PrefillStep, rank: torch.Tensor, num_kept: torch.Tensor, out: torch.Tensor, selection: str) -> None:
    attend_varlen = partial(flash_attention, scale=step.scale)
    attend_packed(
        step.query, step.key, step.value, rank, num_kept, step.batch, step.scale, selection, attend_varlen, out
    )


def flash_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, offsets: torch.Tensor, max_tokens: int, scale: float
) -> torch.Tensor:
    """vLLM's causal varlen FlashAttention over prompts that begin at `offsets`."""
    from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func, get_flash_attn_version

    return flash_attn_varlen_func(
        q=query,
        k=key,
        v=value,
        cu_seqlens_q=offsets,
        cu_seqlens_k=offsets,
        max_seqlen_q=max_tokens,
        max_seqlen_k=max_tokens,
        softmax_scale=scale,
        causal=True,
        fa_version=get_flash_attn_version(head_size=query.shape[-1]),
    )


def compact(
    step: PrefillStep, rank: torch.Tensor, num_kept: torch.Tensor, removals: torch.Tensor, cache: torch.Tensor
) -> None:
    """Slots, then vLLM's own cache write.

    Args:
        removals: [num_blocks, 3], int32.
        cache: [2, num_blocks, BLOCK_SIZE, num_kv_heads, head_size].
    """
    write_cache(step, slots(step, rank, num_kept, removals), cache)


def slots(step: PrefillStep, rank: torch.Tensor, num_kept: torch.Tensor, removals: torch.Tensor) -> torch.Tensor:
    """Where every token of the step goes, [num_tokens], int64; writes `removals`."""
    return compact_slots_varlen(rank, num_kept, step.batch, step.block_table, BLOCK_SIZE, removals)


def write_cache(step: PrefillStep, slot_mapping: torch.Tensor, cache: torch.Tensor) -> None:
    """Keys and values of the step into the paged cache; slot -1 writes nothing."""
    from vllm.v1.attention.backends.fa_utils import reshape_and_cache_flash

    scale = torch.ones((), device=cache.device)
    reshape_and_cache_flash(step.key, step.value, cache[0], cache[1], slot_mapping, "auto", scale, scale)
