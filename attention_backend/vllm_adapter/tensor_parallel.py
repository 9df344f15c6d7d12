"""Tensor parallelism: ranks hold a share of the heads each, and must select the same tokens."""

import torch
from vllm.distributed import get_tp_group


def mean_over_ranks(importance: torch.Tensor) -> torch.Tensor:
    """Average importance over tensor-parallel ranks.

    Gathered and summed in rank order, so that every rank computes the same bits.

    Args:
        importance: mean over this rank's heads, any shape, float32.
    """
    group = get_tp_group()
    if group.world_size == 1:
        return importance
    return group.all_gather(importance.unsqueeze(0), dim=0).mean(dim=0)
