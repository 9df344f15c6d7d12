"""Block tables, slots and lengths of one step as a stock kernel must see them, for all layers in one launch."""

import torch
import triton
import triton.language as tl

# Columns of a block table, and tokens, that a program handles at a time. A pruned row has few of either: the
# blocks behind its gap hold generated tokens only, and a decode step has one token.
_COLUMNS_AT_ONCE = 128
# A sparse prompt takes all its slots away.
_SLOTS_AT_ONCE = 1024
# vLLM's cache write skips such tokens.
_NO_SLOT = -1


@triton.jit
def _row_ptr(table_ptrs, strides_ptr, group, row):
    """First entry of a row of the int32 table of a group, out of a table of pointers."""
    table_ptr = tl.load(table_ptrs + group).to(tl.pointer_type(tl.int32))
    return tl.multiple_of(table_ptr, 16) + row * tl.load(strides_ptr + group)


@triton.jit(do_not_specialize=["num_reqs"])
def _virtualise_kernel(
    idx_mapping_ptr,  # [num_reqs]
    query_start_loc_ptr,  # [num_reqs_padded + 1]
    positions_ptr,  # [num_tokens]
    is_sparse_ptr,  # [max_num_reqs]
    src_block_table_ptrs,  # [num_groups]
    dst_block_table_ptrs,  # [num_groups]
    block_table_strides_ptr,  # [num_groups]
    slot_mappings_ptr,  # [num_groups, max_num_tokens]
    seq_lens_ptr,  # [num_reqs_padded]
    removals_ptr,  # [num_blocks_total, 3]
    virtual_seq_lens_ptr,  # [num_groups, max_num_reqs]
    num_reqs,
    stride_slot_mappings,
    stride_removals,
    stride_virtual_seq_lens,
    BLOCK_SIZE: tl.constexpr,
    NO_SLOT: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_SLOTS: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1)
    virtual_seq_len_ptr = virtual_seq_lens_ptr + group * stride_virtual_seq_lens + row
    if row >= num_reqs:
        tl.store(virtual_seq_len_ptr, 0)
        return
    state = tl.load(idx_mapping_ptr + row).to(tl.int64)
    if state < 0:
        # A dummy request: it owns no blocks.
        tl.store(virtual_seq_len_ptr, 0)
        return

    start = tl.load(query_start_loc_ptr + row)
    is_sparse = tl.load(is_sparse_ptr + state) != 0
    starts = tl.load(positions_ptr + start) == 0
    seq_len = tl.load(seq_lens_ptr + row)
    # Only sparse requests are ever pruned. What the entry of a dense one holds may be stale: with prefix caching
    # its first block can be one that another row of this very step starts with and resets.
    if (not is_sparse) & (not starts):
        tl.store(virtual_seq_len_ptr, seq_len)
        return

    end = tl.load(query_start_loc_ptr + row + 1)
    src_row_ptr = _row_ptr(src_block_table_ptrs, block_table_strides_ptr, group, state)
    removal_ptr = removals_ptr + tl.load(src_row_ptr).to(tl.int64) * stride_removals
    slot_mapping_ptr = slot_mappings_ptr + group * stride_slot_mappings
    if starts:
        tl.store(removal_ptr, 0)
        tl.store(removal_ptr + 1, 0)
        tl.store(removal_ptr + 2, 0)
        tl.store(virtual_seq_len_ptr, tl.where(is_sparse, 0, seq_len))
        if is_sparse:
            for first in range(start, end, BLOCK_SLOTS):
                # [BLOCK_SLOTS]
                token = first + tl.arange(0, BLOCK_SLOTS)
                tl.store(slot_mapping_ptr + token, NO_SLOT, mask=token < end)
        return

    kept_blocks = tl.load(removal_ptr)
    removed_blocks = tl.load(removal_ptr + 1)
    removed_tokens = tl.load(removal_ptr + 2)
    tl.store(virtual_seq_len_ptr, seq_len - removed_tokens)
    if removed_blocks > 0:
        dst_row_ptr = _row_ptr(dst_block_table_ptrs, block_table_strides_ptr, group, row)
        # Blocks with tokens, which is as far as attention reads. vLLM's own count of blocks lies in host memory.
        num_virtual_blocks = tl.cdiv(seq_len, BLOCK_SIZE) - removed_blocks
        for first in range(kept_blocks, num_virtual_blocks, BLOCK_COLUMNS):
            # [BLOCK_COLUMNS]
            column = first + tl.arange(0, BLOCK_COLUMNS)
            mask = column < num_virtual_blocks
            tl.store(dst_row_ptr + column, tl.load(src_row_ptr + removed_blocks + column, mask=mask), mask=mask)
    if removed_tokens > 0:
        for first in range(start, end, BLOCK_COLUMNS):
            # [BLOCK_COLUMNS]
            token = first + tl.arange(0, BLOCK_COLUMNS)
            mask = token < end
            index = tl.load(positions_ptr + token, mask=mask, other=0) - removed_tokens
            column = index // BLOCK_SIZE
            column += tl.where(column >= kept_blocks, removed_blocks, 0)
            block = tl.load(src_row_ptr + column, mask=mask, other=0).to(tl.int64)
            tl.store(slot_mapping_ptr + token, block * BLOCK_SIZE + index % BLOCK_SIZE, mask=mask)


def virtualise_step(
    idx_mapping: torch.Tensor,
    query_start_loc: torch.Tensor,
    positions: torch.Tensor,
    is_sparse_by_state: torch.Tensor,
    src_block_table_ptrs: torch.Tensor,
    dst_block_table_ptrs: torch.Tensor,
    block_table_strides: torch.Tensor,
    slot_mappings: torch.Tensor,
    seq_lens: torch.Tensor,
    removals: torch.Tensor,
    virtual_seq_lens: torch.Tensor,
    block_size: int,
    num_reqs: int,
) -> None:
    """Show every layer's batch to a stock attention kernel as if pruned rows had never been longer.

    Runs behind vLLM's gathering of block tables and slots, whose results it corrects in place. Rows that
    start (first token at position 0) forget what was removed from an earlier owner of their first block; if
    they are sparse their slots are taken away and their length is 0, for the sparse path computes them.

    Args:
        idx_mapping: request state of every row, [num_reqs], int64; -1 for a dummy request.
        query_start_loc: first token of every row, [num_reqs_padded + 1], int32.
        positions: position of every token in its request, [num_tokens], int64.
        is_sparse_by_state: whether a request prunes its prompt, [max_num_reqs], int32.
        src_block_table_ptrs: addresses of the natural tables by request state, [num_groups], uint64; each
            points to int32 [max_num_reqs, max_num_blocks].
        dst_block_table_ptrs: addresses of the tables by row that attention reads; they hold the natural rows.
            Entries behind the last block with tokens stay as they are.
        block_table_strides: row stride of both kinds of tables, [num_groups], int64.
        slot_mappings: natural slots, [num_groups, max_num_tokens], int64.
        seq_lens: natural lengths, [num_reqs_padded], int32.
        removals: [num_blocks_total, 3], int32, by first physical block, with the columns of `Removal`.
        virtual_seq_lens: result, [num_groups, at least num_reqs_padded], int32; 0 for padded rows.
        block_size: tokens a block holds.
        num_reqs: rows that are not padding.
    """
    _virtualise_kernel[(slot_mappings.shape[0], seq_lens.shape[0])](
        idx_mapping,
        query_start_loc,
        positions,
        is_sparse_by_state,
        src_block_table_ptrs,
        dst_block_table_ptrs,
        block_table_strides,
        slot_mappings,
        seq_lens,
        removals,
        virtual_seq_lens,
        num_reqs,
        slot_mappings.stride(0),
        removals.stride(0),
        virtual_seq_lens.stride(0),
        BLOCK_SIZE=block_size,
        NO_SLOT=_NO_SLOT,
        BLOCK_COLUMNS=_COLUMNS_AT_ONCE,
        BLOCK_SLOTS=_SLOTS_AT_ONCE,
        num_warps=4,
    )
