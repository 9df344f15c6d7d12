"""Exact compaction of a pruned prompt inside the KV blocks it already owns.

Layer j keeps k of L prompt tokens. They move to the first k slots of the *virtual row*
`row[:kept_blocks] ++ row[L // block_size:]`; every later token at position i follows at index i - (L - k).
Blocks `row[kept_blocks : L // block_size]` hold nothing any more and can serve other requests.
"""

from typing import NamedTuple

import torch


class Removal(NamedTuple):
    """What pruning took out of one request's row of one layer. Zeros mean: nothing.

    Attributes:
        kept_blocks: leading blocks that hold the kept tokens; the gap starts behind them.
        removed_blocks: length of the gap.
        removed_tokens: r = L - k, by which every later token moved forward.
    """

    kept_blocks: int
    removed_blocks: int
    removed_tokens: int


def plan_removal(num_prompt_tokens: int, num_kept_tokens: int, block_size: int) -> Removal:
    """The gap that keeping k of L tokens leaves in a row of blocks.

    The block that holds position L is never part of the gap: it receives the next tokens.
    """
    num_full_blocks = num_prompt_tokens // block_size
    kept_blocks = min(-(-num_kept_tokens // block_size), num_full_blocks)
    return Removal(kept_blocks, num_full_blocks - kept_blocks, num_prompt_tokens - num_kept_tokens)


def compact_slots(block_row: torch.Tensor, removal: Removal, num_stored_tokens: int, block_size: int) -> torch.Tensor:
    """Slots of the first tokens of a virtual row.

    Args:
        block_row: physical block ids of the natural row, [max_num_blocks], int32.
        removal: the gap in it.
        num_stored_tokens: kept prompt tokens plus generated tokens that follow them.
        block_size: tokens a block holds.

    Returns:
        [num_stored_tokens], int64, in units of tokens of the paged cache.
    """
    index = torch.arange(num_stored_tokens, device=block_row.device)
    column = index // block_size
    column += removal.removed_blocks * (column >= removal.kept_blocks)
    return block_row[column].long() * block_size + index % block_size
