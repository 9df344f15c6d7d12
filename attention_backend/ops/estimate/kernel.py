"""Importance of prompt tokens in two launches (ZipVL section 4.2, eq. 6 and 7); the README explains both."""

import math

import torch
import triton
import triton.language as tl

from attention_backend.ops.prefill_batch import PrefillBatch

# Programs that fill a large GPU: an A100 has 108 multiprocessors, an H200 132, a B200 148.
_FULL_GRID = 128
_ROW_TILE = 128


@triton.jit
def _row_lse_kernel(
    query_ptr,
    key_ptr,
    probes_ptr,
    num_probes_ptr,
    token_start_ptr,
    lse_ptr,
    scale_log2,
    stride_query_token,
    stride_query_head,
    stride_key_token,
    stride_key_head,
    stride_probes,
    GROUP_SIZE: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NUM_SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Base-2 log-sum-exp of one head's probe rows over one split of the keys they see."""
    num_tiles = tl.num_programs(0) // NUM_SPLITS
    # Late probes see most keys: start with them.
    tile = num_tiles - 1 - tl.program_id(0) // NUM_SPLITS
    split = tl.program_id(0) % NUM_SPLITS
    head = tl.program_id(1)
    prompt = tl.program_id(2)
    num_probes = tl.load(num_probes_ptr + prompt)
    if tile * BLOCK_M >= num_probes:
        return

    token_start = tl.load(token_start_ptr + prompt).to(tl.int64)
    offs_m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_d = tl.arange(0, BLOCK_D)
    mask_m = offs_m < num_probes
    mask_d = offs_d < HEAD_SIZE
    # [BLOCK_M]; -1 sees nothing
    position = tl.load(probes_ptr + prompt.to(tl.int64) * stride_probes + offs_m, mask=mask_m, other=-1)
    # [BLOCK_M, BLOCK_D]
    query_rows = (token_start + position)[:, None] * stride_query_token + head * stride_query_head + offs_d[None, :]
    query = tl.load(query_ptr + query_rows, mask=mask_m[:, None] & mask_d[None, :], other=0.0)

    num_keys = tl.max(position) + 1
    split_size = tl.cdiv(tl.cdiv(num_keys, NUM_SPLITS), BLOCK_N) * BLOCK_N
    first = split * split_size
    end = tl.minimum(first + split_size, num_keys)
    key_base = key_ptr + token_start * stride_key_token + (head // GROUP_SIZE) * stride_key_head

    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    for start in range(first, end, BLOCK_N):
        offs_n = start + tl.arange(0, BLOCK_N)
        # [BLOCK_N, BLOCK_D]
        key_rows = offs_n.to(tl.int64)[:, None] * stride_key_token + offs_d[None, :]
        key = tl.load(key_base + key_rows, mask=(offs_n < end)[:, None] & mask_d[None, :], other=0.0)
        # [BLOCK_M, BLOCK_N]; keys behind `end` lie behind every position of the tile or in the next split
        logits = tl.dot(query, tl.trans(key), input_precision="ieee") * scale_log2
        visible = (offs_n[None, :] <= position[:, None]) & (offs_n < end)[None, :]
        logits = tl.where(visible, logits, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(logits, 1))
        # A row that has seen no key yet must not compute -inf - -inf.
        shift = tl.where(new_max == float("-inf"), 0.0, new_max)
        row_sum = row_sum * tl.exp2(row_max - shift) + tl.sum(tl.exp2(logits - shift[:, None]), 1)
        row_max = new_max

    # The largest term of a sum is 1, and a row without keys has a maximum of -inf.
    lse = row_max + tl.log2(tl.maximum(row_sum, 1.0))
    # [num_prompts, num_heads, num_tiles * BLOCK_M, NUM_SPLITS]
    lse_row = (prompt * tl.num_programs(1) + head).to(tl.int64) * (num_tiles * BLOCK_M) + offs_m
    tl.store(lse_ptr + lse_row * NUM_SPLITS + split, lse, mask=mask_m)


@triton.jit(do_not_specialize=["stride_partial"])
def _column_sum_kernel(
    query_ptr,
    key_ptr,
    probes_ptr,
    num_probes_ptr,
    token_start_ptr,
    num_prompt_tokens_ptr,
    lse_ptr,
    partial_ptr,
    scale_log2,
    stride_query_token,
    stride_query_head,
    stride_key_token,
    stride_key_head,
    stride_probes,
    stride_lse_head,
    stride_partial,
    GROUP_SIZE: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NUM_SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Probabilities of one tile of keys of one kv head, added up over probes and query heads in a fixed order."""
    first_key = tl.program_id(0) * BLOCK_N
    kv_head = tl.program_id(1)
    prompt = tl.program_id(2)
    num_tokens = tl.load(num_prompt_tokens_ptr + prompt)
    if first_key >= num_tokens:
        return

    token_start = tl.load(token_start_ptr + prompt).to(tl.int64)
    num_probes = tl.load(num_probes_ptr + prompt)
    probes_base = probes_ptr + prompt.to(tl.int64) * stride_probes
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = first_key + tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    offs_split = tl.arange(0, NUM_SPLITS)
    mask_n = offs_n < num_tokens
    mask_d = offs_d < HEAD_SIZE

    # [BLOCK_N, BLOCK_D]
    key_base = key_ptr + (token_start + first_key) * stride_key_token + kv_head * stride_key_head
    key_rows = tl.arange(0, BLOCK_N)[:, None] * stride_key_token + offs_d[None, :]
    key = tl.load(key_base + key_rows, mask=mask_n[:, None] & mask_d[None, :], other=0.0)

    # Probes ascend, so those that see no key of this tile are a prefix.
    num_blind = 0
    for start in range(0, num_probes, BLOCK_M):
        position = tl.load(probes_base + start + offs_m, mask=start + offs_m < num_probes, other=first_key)
        num_blind += tl.sum((position < first_key).to(tl.int32))
    first_probe = num_blind // BLOCK_M * BLOCK_M

    query_base = query_ptr + (kv_head * GROUP_SIZE) * stride_query_head
    lse_base = lse_ptr + (prompt * tl.num_programs(1) + kv_head).to(tl.int64) * GROUP_SIZE * stride_lse_head
    mass = tl.zeros([BLOCK_N], tl.float32)
    # Counted from 0: under a lower bound that is no constant Triton loses the alignment of the loads inside.
    for offset in range(0, num_probes - first_probe, BLOCK_M):
        probe = first_probe + offset + offs_m
        mask_m = probe < num_probes
        position = tl.load(probes_base + probe, mask=mask_m, other=-1)
        query_rows = (token_start + position)[:, None] * stride_query_token + offs_d[None, :]
        lse_rows = probe[:, None] * NUM_SPLITS + offs_split[None, :]
        # [BLOCK_M, BLOCK_N]; what lies above the diagonal is dropped once, behind the loop over heads
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for head in range(GROUP_SIZE):
            # [BLOCK_M, BLOCK_D]
            query = tl.load(
                query_base + head * stride_query_head + query_rows,
                mask=mask_m[:, None] & mask_d[None, :],
                other=0.0,
            )
            # [BLOCK_M, NUM_SPLITS]; split 0 is never empty
            parts = tl.load(lse_base + head * stride_lse_head + lse_rows, mask=mask_m[:, None], other=0.0)
            logits = tl.dot(query, tl.trans(key), input_precision="ieee") * scale_log2
            largest = tl.max(parts, 1)
            lse = largest + tl.log2(tl.sum(tl.exp2(parts - largest[:, None]), 1))
            total += tl.exp2(logits - lse[:, None])
        mass += tl.sum(tl.where(position[:, None] >= offs_n[None, :], total, 0.0), 0)
    # [num_kv_heads, num_step_tokens]
    tl.store(partial_ptr + kv_head.to(tl.int64) * stride_partial + token_start + offs_n, mass, mask=mask_n)


@triton.jit(do_not_specialize=["num_step_tokens"])
def _importance_kernel(
    partial_ptr,
    probes_ptr,
    num_probes_ptr,
    token_start_ptr,
    num_prompt_tokens_ptr,
    importance_ptr,
    stride_probes,
    num_step_tokens,
    NUM_KV_HEADS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Mass from the parts of all kv heads, and the score: mass over the number of probes that see the key."""
    first_key = tl.program_id(0) * BLOCK_N
    prompt = tl.program_id(1)
    num_tokens = tl.load(num_prompt_tokens_ptr + prompt)
    if first_key >= num_tokens:
        return

    token_start = tl.load(token_start_ptr + prompt).to(tl.int64)
    num_probes = tl.load(num_probes_ptr + prompt)
    probes_base = probes_ptr + prompt.to(tl.int64) * stride_probes
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = first_key + tl.arange(0, BLOCK_N)
    mask_n = offs_n < num_tokens
    token = token_start + offs_n

    mass = tl.zeros([BLOCK_N], tl.float32)
    for _kv_head in range(NUM_KV_HEADS):
        mass += tl.load(partial_ptr + token, mask=mask_n, other=0.0)
        partial_ptr += num_step_tokens
    num_seeing = tl.zeros([BLOCK_N], tl.int32)
    for start in range(0, num_probes, BLOCK_M):
        position = tl.load(probes_base + start + offs_m, mask=start + offs_m < num_probes, other=-1)
        num_seeing += tl.sum((position[None, :] >= offs_n[:, None]).to(tl.int32), 1)

    mass = tl.math.div_rn(mass, NUM_KV_HEADS * GROUP_SIZE * 1.0)
    score = tl.math.div_rn(mass, tl.maximum(num_seeing, 1).to(tl.float32))
    tl.store(importance_ptr + token, mask=mask_n, value=mass)
    tl.store(importance_ptr + num_step_tokens + token, mask=mask_n, value=score)


def estimate_importance_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    batch: PrefillBatch,
    probes: torch.Tensor,
    num_probes: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Attention mass that every prompt token of the batch receives from its prompt's probes.

    Args:
        query: queries of the step after rotary embedding, [num_step_tokens, num_heads, head_size]; any stride between
            tokens and heads, the last dimension contiguous.
        key: keys of the step, likewise, [num_step_tokens, num_kv_heads, head_size].
        batch: the sparse prompts.
        probes: ascending prompt positions, [num_prompts, max_probes], int32; unused ones at the end are not read.
            The last prompt token must be a probe.
        num_probes: probes of each prompt, [num_prompts], int32.
        scale: softmax scale.

    Returns:
        Mass and normalised score (see `Importance`), [2, num_step_tokens], float32. Only the columns of prompt tokens
        are written.

    Source: ZipVL eq. 6 (mass) and eq. 7 (normalised score).
    """
    num_step_tokens, num_heads, head_size = query.shape
    num_kv_heads = key.shape[1]
    num_tiles = triton.cdiv(probes.shape[1], _ROW_TILE)
    num_prompts = batch.num_prompts
    # Few probes leave the rows too few programs: split the keys then.
    num_splits = 8 if num_prompts * num_heads * num_tiles < 16 * _FULL_GRID else 1
    lse = torch.empty(
        (num_prompts, num_heads, num_tiles * _ROW_TILE, num_splits), dtype=torch.float32, device=query.device
    )
    importance = torch.empty((2, num_step_tokens), dtype=torch.float32, device=query.device)
    partial = torch.empty((num_kv_heads, num_step_tokens), dtype=torch.float32, device=query.device)
    scale_log2 = scale * math.log2(math.e)
    strides = (query.stride(0), query.stride(1), key.stride(0), key.stride(1), probes.stride(0))
    shape = {
        "GROUP_SIZE": num_heads // num_kv_heads,
        "HEAD_SIZE": head_size,
        "BLOCK_D": triton.next_power_of_2(head_size),
        "NUM_SPLITS": num_splits,
    }
    _row_lse_kernel[(num_tiles * num_splits, num_heads, num_prompts)](
        query,
        key,
        probes,
        num_probes,
        batch.token_start,
        lse,
        scale_log2,
        *strides,
        **shape,
        BLOCK_M=_ROW_TILE,
        BLOCK_N=128,
        num_warps=8,
        num_stages=2,
    )
    _column_sum_kernel[(triton.cdiv(batch.max_prompt_tokens, 128), num_kv_heads, num_prompts)](
        query,
        key,
        probes,
        num_probes,
        batch.token_start,
        batch.num_prompt_tokens,
        lse,
        partial,
        scale_log2,
        *strides,
        lse.stride(1),
        partial.stride(0),
        **shape,
        BLOCK_M=64,
        BLOCK_N=128,
        num_warps=4,
        num_stages=2,
    )
    _importance_kernel[(triton.cdiv(batch.max_prompt_tokens, 256), num_prompts)](
        partial,
        probes,
        num_probes,
        batch.token_start,
        batch.num_prompt_tokens,
        importance,
        probes.stride(0),
        num_step_tokens,
        NUM_KV_HEADS=num_kv_heads,
        GROUP_SIZE=num_heads // num_kv_heads,
        BLOCK_N=256,
        BLOCK_M=32,
        num_warps=4,
    )
    return importance
