"""Importance of prompt tokens from the causal softmax of probe queries (ZipVL section 4.2, eq. 7)."""

from functools import lru_cache
from typing import NamedTuple

import torch

from attention_backend.config import SparsityConfig

# Bounds the score buffer to heads x probes x tokens of this many elements at a time.
_MAX_SCORE_ELEMENTS = 1 << 25


class Importance(NamedTuple):
    """Column sums of the probes' attention.

    Attributes:
        mass: a_j = sum over probes c of A[c, j], averaged over heads. [num_tokens], float32.
        score: s_j = a_j / number of probes at position >= j, so early tokens are not favoured for
            being visible to more probes. [num_tokens], float32.
    """

    mass: torch.Tensor
    score: torch.Tensor


@lru_cache(maxsize=1024)
def probe_positions(num_tokens: int, layer_index: int, config: SparsityConfig) -> torch.Tensor:
    """Rows of the prompt whose queries probe it: the most recent ones and seeded-random earlier ones.

    The choice depends on the prompt length and the layer only, so a preempted request selects again
    exactly what it selected before, on every platform and in training.

    Args:
        num_tokens: prompt length L.
        layer_index: index of the decoder layer.
        config: `num_recent_probes`, `num_random_probes`, `exact`.

    Returns:
        Ascending positions, [num_probes], int64. All L when `exact` is set or L is small.
    """
    num_probes = config.num_recent_probes + config.num_random_probes
    if config.exact or num_tokens <= num_probes:
        return torch.arange(num_tokens)
    num_earlier = num_tokens - config.num_recent_probes
    generator = torch.Generator().manual_seed(num_tokens * 1009 + layer_index)
    earlier = torch.randperm(num_earlier, generator=generator)[: config.num_random_probes]
    recent = torch.arange(num_earlier, num_tokens)
    return torch.cat([earlier.sort().values, recent])


def estimate_importance(query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor, scale: float) -> Importance:
    """Attention mass that every prompt token receives from the probes.

    Args:
        query: probe queries after rotary embedding, [num_probes, num_heads, head_size].
        key: prompt keys after rotary embedding, [num_tokens, num_kv_heads, head_size].
        positions: ascending position of each probe in the prompt, [num_probes], int64. The last prompt
            token must be a probe, so that every token is visible to at least one.
        scale: softmax scale.

    Returns:
        Mass and normalised score, both [num_tokens], float32.

    Source: ZipVL eq. 6 (mass) and eq. 7 (normalised score).
    """
    num_probes, num_heads, head_size = query.shape
    num_tokens, num_kv_heads, _ = key.shape
    group_size = num_heads // num_kv_heads
    # [num_kv_heads, group_size, num_probes, head_size]
    query = query.float().view(num_probes, num_kv_heads, group_size, head_size).permute(1, 2, 0, 3) * scale
    # [num_kv_heads, head_size, num_tokens]
    key = key.float().permute(1, 2, 0)
    # [num_probes, num_tokens], 0 or -inf. Added, because filling through a mask is several times slower on CPU.
    hidden = torch.arange(num_tokens, device=key.device) > positions[:, None]
    bias = torch.zeros(num_probes, num_tokens, device=key.device).masked_fill_(hidden, float("-inf"))

    mass = torch.zeros(num_tokens, dtype=torch.float32, device=key.device)
    heads_at_once = max(1, _MAX_SCORE_ELEMENTS // (num_probes * num_tokens))
    for kv_head in range(num_kv_heads):
        for first in range(0, group_size, heads_at_once):
            # [heads, num_probes, num_tokens]
            logits = query[kv_head, first : first + heads_at_once] @ key[kv_head]
            mass += logits.add_(bias).softmax(dim=-1).sum(dim=(0, 1))
    mass /= num_heads
    # Probes at position >= j, for every j. [num_tokens]
    first_seen = torch.searchsorted(positions, torch.arange(num_tokens, device=key.device))
    return Importance(mass, mass / (num_probes - first_seen))
