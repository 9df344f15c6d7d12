"""Close the gaps that pruning left, so that any stock kernel can decode on the result.

The removals of a step are a tensor [num_reqs, 3], int32, with the columns of `Removal`; rows of zeros
are requests that were not pruned and come out unchanged.
"""

import torch


def virtualise_block_table(block_table: torch.Tensor, removals: torch.Tensor) -> torch.Tensor:
    """Leave the removed blocks out of every row.

    Args:
        block_table: physical block ids, [num_reqs, max_num_blocks], int32.
        removals: [num_reqs, 3], int32.

    Returns:
        A new table of the same shape; entries behind the shortened row repeat its last column.
    """
    max_num_blocks = block_table.shape[1]
    kept_blocks, removed_blocks = removals[:, 0:1].long(), removals[:, 1:2].long()
    # [num_reqs, max_num_blocks]
    column = torch.arange(max_num_blocks, device=block_table.device).expand_as(block_table)
    column = column + removed_blocks * (column >= kept_blocks)
    return block_table.gather(1, column.clamp_(max=max_num_blocks - 1))


def virtualise_slot_mapping(
    slot_mapping: torch.Tensor,
    positions: torch.Tensor,
    request_of_token: torch.Tensor,
    virtual_block_table: torch.Tensor,
    removals: torch.Tensor,
    block_size: int,
) -> None:
    """Rewrite, in place, where the tokens of pruned requests are stored.

    Args:
        slot_mapping: natural slots, [num_tokens], int64; changed for tokens of pruned requests only.
        positions: logical position of every token, [num_tokens], int64.
        request_of_token: row of its request, [num_tokens], int64.
        virtual_block_table: [num_reqs, max_num_blocks], int32.
        removals: [num_reqs, 3], int32.
        block_size: tokens a block holds.
    """
    # [num_tokens]
    removed_tokens = removals[:, 2].long()[request_of_token]
    index = positions - removed_tokens
    block = virtual_block_table[request_of_token, index // block_size].long()
    torch.where(removed_tokens > 0, block * block_size + index % block_size, slot_mapping, out=slot_mapping)
