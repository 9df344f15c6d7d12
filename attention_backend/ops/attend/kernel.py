"""Pack the kept rows of a step's sparse prompts, and causal attention over packed keys (ZipVL section 4.1)."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from attention_backend.ops.prefill_batch import PrefillBatch

LOG2_E = 1.4426950408889634

# Elements that one program of a copying kernel moves, and the most of a token's row among them.
_COPIED_ELEMENTS = 8192
_COPIED_COLUMNS = 512
_POSITIONS_PER_PROGRAM = 1024
# Pivots per round when a query tile looks for its last key: two rounds up to 512 * 512 packed keys.
_SEARCH_WIDTH = 512


class Tiles(NamedTuple):
    """How `attend_keys` is cut: query rows and keys of a tile, warps and pipeline stages of a program."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int


def choose_tiles(dtype: torch.dtype, capability: tuple[int, int]) -> Tiles:
    """Tiles of `attend_keys`; a fixed table, so that no step is spent on timing and every rank computes alike.

    Made for head size 128, which smaller ones are padded to at most.

    Args:
        dtype: of query, key and value.
        capability: compute capability of the GPU; (0, 0) for Triton's interpreter.
    """
    if capability == (0, 0):
        return Tiles(64, 64, 4, 1)
    if dtype == torch.float32:
        return Tiles(32, 32, 4, 2)
    if capability == (9, 0):
        return Tiles(128, 128, 8, 2)
    if capability == (8, 0) or capability[0] == 10:
        return Tiles(128, 64, 8, 3)
    # 99 KiB of shared memory.
    return Tiles(64, 64, 4, 2)


@triton.jit
def _tile(rank_ptr, offsets_ptr, token_start_ptr, num_tokens_ptr, BLOCK_TOKENS: tl.constexpr):
    """Tokens of this program's tile of prompt `program_id(1)`, their packed rows, and which of them exist."""
    prompt = tl.program_id(1)
    # [BLOCK_TOKENS]
    position = tl.program_id(0) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    mask_token = position < tl.load(num_tokens_ptr + prompt)
    token = (tl.load(token_start_ptr + prompt) + position).to(tl.int64)
    rank = tl.load(rank_ptr + token, mask=mask_token, other=-1)
    packed = (tl.load(offsets_ptr + prompt) + rank).to(tl.int64)
    return position, token, packed, mask_token, rank >= 0


@triton.jit
def _copy_rows_kernel(
    strided_ptr,  # rows by token
    packed_ptr,  # rows by rank
    rank_ptr,
    offsets_ptr,
    token_start_ptr,
    num_tokens_ptr,
    stride_token,
    stride_head,
    NUM_COLUMNS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    PACK: tl.constexpr,
):
    _, token, packed, mask_token, is_stored = _tile(
        rank_ptr, offsets_ptr, token_start_ptr, num_tokens_ptr, BLOCK_TOKENS
    )
    # [BLOCK_COLUMNS]
    column = tl.program_id(2) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    mask_column = (column < NUM_COLUMNS)[None, :]
    offs_column = (column // HEAD_SIZE).to(tl.int64) * stride_head + column % HEAD_SIZE
    # [BLOCK_TOKENS, BLOCK_COLUMNS]
    strided_ptrs = strided_ptr + token[:, None] * stride_token + offs_column[None, :]
    packed_ptrs = packed_ptr + packed[:, None] * NUM_COLUMNS + column[None, :]
    mask_stored = is_stored[:, None] & mask_column
    if PACK:
        tl.store(packed_ptrs, tl.load(strided_ptrs, mask=mask_stored), mask=mask_stored)
    else:
        # Dropped tokens load nothing and are written as 0.
        rows = tl.load(packed_ptrs, mask=mask_stored, other=0.0)
        tl.store(strided_ptrs, rows, mask=mask_token[:, None] & mask_column)


@triton.jit
def _positions_kernel(
    rank_ptr, offsets_ptr, token_start_ptr, num_tokens_ptr, positions_ptr, BLOCK_TOKENS: tl.constexpr
):
    position, _, packed, _, is_stored = _tile(rank_ptr, offsets_ptr, token_start_ptr, num_tokens_ptr, BLOCK_TOKENS)
    tl.store(positions_ptr + packed, position, mask=is_stored)


@triton.jit
def _count_up_to(positions_ptr, num_positions, position, WIDTH: tl.constexpr):
    """How many of the ascending positions are <= `position`: a search with WIDTH pivots a round."""
    # What lies before `first` is <= position; the border is among the `remaining` that follow.
    first = 0
    remaining = num_positions
    while remaining > WIDTH:
        step = tl.cdiv(remaining, WIDTH)
        # [WIDTH]
        offs = tl.arange(0, WIDTH) * step
        pivot = tl.load(positions_ptr + first + offs, mask=offs < remaining, other=0)
        num_passed = tl.sum(((pivot <= position) & (offs < remaining)).to(tl.int32))
        # The last pivot that passed starts the next round.
        skipped = tl.maximum(num_passed - 1, 0) * step
        first += skipped
        remaining = tl.minimum(remaining - skipped, step)
    offs = tl.arange(0, WIDTH)
    rest = tl.load(positions_ptr + first + offs, mask=offs < remaining, other=0)
    return first + tl.sum(((rest <= position) & (offs < remaining)).to(tl.int32))


@triton.jit
def _attend_key_tiles(
    acc,  # [BLOCK_M, BLOCK_D] float32, sum of exp2(logit - row_max) * value
    row_max,  # [BLOCK_M] float32, in units of log 2
    row_sum,  # [BLOCK_M] float32
    query,  # [BLOCK_M, BLOCK_D]
    query_position,  # [BLOCK_M]
    key_ptr,  # first packed key of the prompt and key-value head
    value_ptr,
    positions_ptr,
    first,
    end,
    scale_log2,
    STRIDE: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Online softmax over packed keys [first, end); without MASKED every row sees all of them."""
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    # [BLOCK_N, BLOCK_D]
    offs_tile = offs_n[:, None] * STRIDE + offs_d[None, :]
    for tile in tl.range(first, end, BLOCK_N):
        base = tl.cast(tile, tl.int64) * STRIDE
        mask_n = tile + offs_n < end
        if MASKED or BLOCK_D != HEAD_SIZE:
            mask = mask_n[:, None] & (offs_d < HEAD_SIZE)[None, :]
            key = tl.load(key_ptr + base + offs_tile, mask=mask, other=0.0)
            value = tl.load(value_ptr + base + offs_tile, mask=mask, other=0.0)
        else:
            key = tl.load(key_ptr + base + offs_tile)
            value = tl.load(value_ptr + base + offs_tile)
        # [BLOCK_M, BLOCK_N]
        logit = tl.dot(query, tl.trans(key), input_precision="ieee") * scale_log2
        if MASKED:
            key_position = tl.load(positions_ptr + tile + offs_n, mask=mask_n, other=0)
            is_seen = mask_n[None, :] & (key_position[None, :] <= query_position[:, None])
            logit = tl.where(is_seen, logit, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(logit, 1))
        # A row that has seen no key yet: -inf - -inf would be NaN.
        shift = tl.where(new_max == float("-inf"), 0.0, new_max) if MASKED else new_max
        weight = tl.exp2(logit - shift[:, None])
        shrink = tl.exp2(row_max - shift)
        row_sum = row_sum * shrink + tl.sum(weight, 1)
        acc = tl.dot(weight.to(value.dtype), value, acc * shrink[:, None], input_precision="ieee")
        row_max = new_max
    return acc, row_max, row_sum


@triton.jit
def _attend_keys_kernel(
    query_ptr,
    key_ptr,
    value_ptr,
    positions_ptr,
    offsets_ptr,
    token_start_ptr,
    num_tokens_ptr,
    out_ptr,
    scale_log2,
    stride_query_token,
    stride_query_head,
    stride_out_token,
    stride_out_head,
    GROUP_SIZE: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SEARCH_WIDTH: tl.constexpr,
):
    head = tl.program_id(1)
    prompt = tl.program_id(2)
    num_tokens = tl.load(num_tokens_ptr + prompt)
    # Late tiles see the most keys: they start first, so that short ones fill the end of the launch.
    tile = tl.cdiv(num_tokens, BLOCK_M) - 1 - tl.program_id(0)
    if tile < 0:
        return
    first_position = tile * BLOCK_M
    last_position = tl.minimum(first_position + BLOCK_M, num_tokens) - 1
    # [BLOCK_M], the position in the prompt
    offs_m = first_position + tl.arange(0, BLOCK_M)
    # [BLOCK_M, BLOCK_D]
    offs_d = tl.arange(0, BLOCK_D)[None, :]
    mask = offs_m[:, None] < num_tokens
    if BLOCK_D != HEAD_SIZE:
        mask &= offs_d < HEAD_SIZE
    token = tl.load(token_start_ptr + prompt).to(tl.int64) + first_position
    # [BLOCK_M, 1]
    offs_row = tl.arange(0, BLOCK_M)[:, None]
    query_ptr += token * stride_query_token + head.to(tl.int64) * stride_query_head
    query = tl.load(query_ptr + offs_row * stride_query_token + offs_d, mask=mask, other=0.0)

    # Packed keys [0, num_whole) are seen by every row of the tile, [num_whole, num_seen) by its later rows.
    packed_start = tl.load(offsets_ptr + prompt)
    num_packed = tl.load(offsets_ptr + prompt + 1) - packed_start
    positions_ptr += packed_start
    num_before = _count_up_to(positions_ptr, num_packed, first_position, SEARCH_WIDTH)
    num_whole = num_before // BLOCK_N * BLOCK_N
    # Positions differ, so fewer than BLOCK_M keys lie behind the first row and not behind the last. [BLOCK_M]
    offs_within = num_before + tl.arange(0, BLOCK_M)
    within = tl.load(positions_ptr + offs_within, mask=offs_within < num_packed, other=num_tokens)
    num_seen = num_before + tl.sum((within <= last_position).to(tl.int32))

    STRIDE: tl.constexpr = NUM_KV_HEADS * HEAD_SIZE
    base = packed_start.to(tl.int64) * STRIDE + (head // GROUP_SIZE) * HEAD_SIZE
    key_ptr += base
    value_ptr += base
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    # fmt: off
    acc, row_max, row_sum = _attend_key_tiles(
        acc, row_max, row_sum, query, offs_m, key_ptr, value_ptr, positions_ptr, 0, num_whole,
        scale_log2, STRIDE, HEAD_SIZE, BLOCK_N, BLOCK_D, MASKED=False,
    )
    acc, row_max, row_sum = _attend_key_tiles(
        acc, row_max, row_sum, query, offs_m, key_ptr, value_ptr, positions_ptr, num_whole, num_seen,
        scale_log2, STRIDE, HEAD_SIZE, BLOCK_N, BLOCK_D, MASKED=True,
    )
    # fmt: on
    # Rows that see no key: 0 / 1.
    out = acc / tl.where(row_sum == 0.0, 1.0, row_sum)[:, None]
    out_ptr += token * stride_out_token + head.to(tl.int64) * stride_out_head
    tl.store(out_ptr + offs_row * stride_out_token + offs_d, out.to(out_ptr.dtype.element_ty), mask=mask)


def stored_offsets(num_kept: torch.Tensor, batch: PrefillBatch) -> torch.Tensor:
    """Where the packed rows of every prompt begin: kept tokens and the generated tokens behind them.

    Args:
        num_kept: k of every prompt, [n], int32.
        batch: the sparse prompts.

    Returns:
        [n + 1], int32; the last entry is the number of packed rows.
    """
    offsets = num_kept.new_zeros(batch.num_prompts + 1)
    torch.cumsum(num_kept + batch.num_tokens - batch.num_prompt_tokens, 0, dtype=torch.int32, out=offsets[1:])
    return offsets


def pack_rows(rows: torch.Tensor, rank: torch.Tensor, batch: PrefillBatch, offsets: torch.Tensor) -> torch.Tensor:
    """Rows of the kept and generated tokens, prompt behind prompt, in ascending position order.

    Args:
        rows: query, key or value of the step, [num_tokens, num_heads, head_size]; any strides but a
            contiguous last dimension.
        rank: index of every token among the stored tokens of its prompt, -1 when dropped, [num_tokens], int32.
        batch: the sparse prompts.
        offsets: of `stored_offsets`, [n + 1], int32.

    Returns:
        Contiguous, of the shape of `rows`; rows behind offsets[n] are unspecified.
    """
    packed = rows.new_empty(rows.shape)
    _copy_rows(rows, packed, rank, batch, offsets, pack=True)
    return packed


def unpack_rows(
    packed: torch.Tensor, rank: torch.Tensor, batch: PrefillBatch, offsets: torch.Tensor, out: torch.Tensor
) -> None:
    """Put packed rows back to their tokens; dropped tokens get 0.

    Args:
        packed: contiguous, [num_tokens, num_heads, head_size].
        rank: as for `pack_rows`.
        batch: the sparse prompts.
        offsets: of `stored_offsets`.
        out: [num_tokens, num_heads, head_size]; any strides but a contiguous last dimension. Tokens of other
            requests are not touched.
    """
    _copy_rows(out, packed, rank, batch, offsets, pack=False)


def _copy_rows(strided, packed, rank, batch, offsets, pack: bool) -> None:
    """Launch a copy from `strided` [num_tokens, num_heads, head_size] to packed rows, or back."""
    _, num_heads, head_size = strided.shape
    num_columns = num_heads * head_size
    assert strided.stride(2) == packed.stride(2) == 1
    assert packed.stride(0) == num_columns
    block_columns = min(_COPIED_COLUMNS, triton.next_power_of_2(num_columns))
    block_tokens = _COPIED_ELEMENTS // block_columns
    grid = triton.cdiv(batch.max_num_tokens, block_tokens), batch.num_prompts, triton.cdiv(num_columns, block_columns)
    # fmt: off
    _copy_rows_kernel[grid](
        strided, packed, rank, offsets, batch.token_start, batch.num_tokens, strided.stride(0), strided.stride(1),
        num_columns, head_size, block_tokens, block_columns, PACK=pack, num_warps=4,
    )
    # fmt: on


def pack_positions(rank: torch.Tensor, batch: PrefillBatch, offsets: torch.Tensor) -> torch.Tensor:
    """Position in its prompt of every packed row.

    Args:
        rank: as for `pack_rows`.
        batch: the sparse prompts.
        offsets: of `stored_offsets`.

    Returns:
        [num_tokens], int32, ascending within a prompt; entries behind offsets[n] are unspecified.
    """
    positions = torch.empty_like(rank)
    grid = triton.cdiv(batch.max_num_tokens, _POSITIONS_PER_PROGRAM), batch.num_prompts
    _positions_kernel[grid](
        rank, offsets, batch.token_start, batch.num_tokens, positions, _POSITIONS_PER_PROGRAM, num_warps=4
    )
    return positions


def attend_keys(
    query: torch.Tensor,
    packed_key: torch.Tensor,
    packed_value: torch.Tensor,
    packed_positions: torch.Tensor,
    batch: PrefillBatch,
    offsets: torch.Tensor,
    scale: float,
    out: torch.Tensor,
    tiles: Tiles | None = None,
) -> None:
    """Attention of every row of the sparse prompts over their kept keys at or before it (`selection = "keys"`).

    Args:
        query: [num_tokens, num_heads, head_size] after rotary embedding; any strides but a contiguous last
            dimension.
        packed_key: of `pack_rows`, [num_tokens, num_kv_heads, head_size].
        packed_value: likewise.
        packed_positions: of `pack_positions`, [num_tokens], int32.
        batch: the sparse prompts.
        offsets: of `stored_offsets`.
        scale: softmax scale, positive.
        out: [num_tokens, num_heads, head_size]; any strides but a contiguous last dimension. Rows that see no
            key get 0; tokens of other requests are not touched.
        tiles: other tiles than those of `choose_tiles`.
    """
    _, num_heads, head_size = query.shape
    num_kv_heads = packed_key.shape[1]
    assert query.stride(2) == out.stride(2) == 1
    assert packed_key.stride(0) == packed_value.stride(0) == num_kv_heads * head_size
    if tiles is None:
        capability = torch.cuda.get_device_capability(query.device) if query.is_cuda else (0, 0)
        tiles = choose_tiles(query.dtype, capability)
    grid = triton.cdiv(batch.max_num_tokens, tiles.rows), num_heads, batch.num_prompts
    _attend_keys_kernel[grid](
        query,
        packed_key,
        packed_value,
        packed_positions,
        offsets,
        batch.token_start,
        batch.num_tokens,
        out,
        scale * LOG2_E,
        query.stride(0),
        query.stride(1),
        out.stride(0),
        out.stride(1),
        GROUP_SIZE=num_heads // num_kv_heads,
        NUM_KV_HEADS=num_kv_heads,
        HEAD_SIZE=head_size,
        BLOCK_M=tiles.rows,
        BLOCK_N=tiles.keys,
        BLOCK_D=triton.next_power_of_2(head_size),
        SEARCH_WIDTH=_SEARCH_WIDTH,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
