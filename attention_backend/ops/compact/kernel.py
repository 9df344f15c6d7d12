"""Slots of a step's kept tokens, and the removals that decoding reads later; see the README for the layout."""

import torch
import triton
import triton.language as tl

from attention_backend.ops.prefill_batch import PrefillBatch

_TOKENS_PER_PROGRAM = 1024
# vLLM's cache write skips such tokens.
_NO_SLOT = -1


@triton.jit
def _compact_slots_kernel(
    rank_ptr,
    num_kept_ptr,
    token_start_ptr,
    num_tokens_ptr,
    num_prompt_tokens_ptr,
    row_ptr,
    block_table_ptr,
    removals_ptr,
    slots_ptr,
    stride_block_table,
    stride_removals,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
):
    prompt = tl.program_id(1)
    num_prompt_tokens = tl.load(num_prompt_tokens_ptr + prompt)
    num_kept = tl.load(num_kept_ptr + prompt)
    num_full_blocks = num_prompt_tokens // BLOCK_SIZE
    kept_blocks = tl.minimum(tl.cdiv(num_kept, BLOCK_SIZE), num_full_blocks)
    removed_blocks = num_full_blocks - kept_blocks
    block_row_ptr = block_table_ptr + tl.load(row_ptr + prompt).to(tl.int64) * stride_block_table

    # [BLOCK_TOKENS]
    position = tl.program_id(0) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    mask_token = position < tl.load(num_tokens_ptr + prompt)
    token = (tl.load(token_start_ptr + prompt) + position).to(tl.int64)
    index = tl.load(rank_ptr + token, mask=mask_token, other=-1)
    is_stored = index >= 0
    column = index // BLOCK_SIZE
    column += tl.where(column >= kept_blocks, removed_blocks, 0)
    block = tl.load(block_row_ptr + column, mask=is_stored, other=0).to(tl.int64)
    tl.store(slots_ptr + token, block * BLOCK_SIZE + index % BLOCK_SIZE, mask=is_stored)

    if tl.program_id(0) == 0:
        removal_ptr = removals_ptr + tl.load(block_row_ptr).to(tl.int64) * stride_removals
        tl.store(removal_ptr, kept_blocks)
        tl.store(removal_ptr + 1, removed_blocks)
        tl.store(removal_ptr + 2, num_prompt_tokens - num_kept)


def compact_slots_varlen(
    rank: torch.Tensor,
    num_kept: torch.Tensor,
    batch: PrefillBatch,
    block_table: torch.Tensor,
    block_size: int,
    removals: torch.Tensor,
) -> torch.Tensor:
    """Where the kept and generated tokens of every sparse prompt are stored; notes each removal at its first block.

    Args:
        rank: index of every token among the stored tokens of its prompt, -1 when dropped, [num_tokens], int32.
        num_kept: k of every prompt, [n], int32.
        batch: the sparse prompts.
        block_table: natural rows of physical block ids, [num_reqs, max_num_blocks], int32.
        block_size: tokens a block holds.
        removals: side table by a request's first physical block, [num_blocks, 3], int32, with the columns of
            `Removal`; the entries of these prompts are written.

    Returns:
        [num_tokens], int64, in units of tokens of the paged cache; -1 for dropped tokens and for tokens of
        other requests.
    """
    slots = torch.full(rank.shape, _NO_SLOT, dtype=torch.int64, device=rank.device)
    grid = triton.cdiv(batch.max_num_tokens, _TOKENS_PER_PROGRAM), batch.num_prompts
    _compact_slots_kernel[grid](
        rank,
        num_kept,
        batch.token_start,
        batch.num_tokens,
        batch.num_prompt_tokens,
        batch.row,
        block_table,
        removals,
        slots,
        block_table.stride(0),
        removals.stride(0),
        BLOCK_SIZE=block_size,
        BLOCK_TOKENS=_TOKENS_PER_PROGRAM,
        num_warps=4,
    )
    return slots
