"""Scores that know nothing of attention; the README says what they are for."""

import torch

from attention_backend.config import Ranking

_UINT32 = 0xFFFFFFFF


def baseline_score(
    num_tokens: int, layer_index: int, ranking: Ranking, device: torch.device | None = None
) -> torch.Tensor:
    """What tokens rank by instead of the score that attention gives them.

    "recent": later tokens stand higher. "random": an order drawn by prompt length and layer only, so a preempted
    request selects again exactly what it selected before, on every platform.

    Args:
        num_tokens: prompt length L.
        layer_index: index of the decoder layer.
        ranking: "random" or "recent".

    Returns:
        [num_tokens], float32, not negative.
    """
    position = torch.arange(num_tokens, device=device)
    if ranking == "recent":
        return position.float()
    assert ranking == "random", "ranking 'attention' keeps the score it has"
    seed = _mixed(torch.tensor((num_tokens * 1009 + layer_index) & _UINT32, device=device))
    # The upper 24 bits: float32 holds them exactly.
    return (_mixed(position ^ seed) >> 8).float()


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """32 bits, each of which depends on all bits of the input; a bijection (MurmurHash3's finaliser).

    Args:
        bits: int64 in 0 .. 2^32 - 1. Products wrap at 64 bits, which leaves their lower 32 right.
    """
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & _UINT32
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & _UINT32
    return bits ^ (bits >> 16)
