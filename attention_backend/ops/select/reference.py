"""Top-p selection of prompt tokens (ZipVL section 4.1, eq. 6 to 8)."""

import math

import torch

from attention_backend.config import SparsityConfig


def forced_tokens(num_tokens: int, config: SparsityConfig, device: torch.device | None = None) -> torch.Tensor:
    """Mask of the tokens that are always kept: the first sinks and the most recent ones.

    Returns:
        [num_tokens], bool.
    """
    position = torch.arange(num_tokens, device=device)
    return (position < config.num_sink_tokens) | (position >= num_tokens - config.num_recent_tokens)


def select_tokens(
    mass: torch.Tensor,
    score: torch.Tensor,
    sparsity_p: float,
    forced: torch.Tensor,
    fixed_token_ratio: float | None = None,
) -> torch.Tensor:
    """Choose the kept set T of one prompt in one layer.

    How many: k is the smallest number of columns whose sorted masses reach `sparsity_p` of the total;
    the column that crosses the threshold counts. Which: the k columns of highest normalised score.
    Forced tokens come first and count in k. Among equal scores the lower position wins.

    Args:
        mass: a_j, [num_tokens], float32.
        score: s_j, [num_tokens], float32.
        sparsity_p: share of the mass in (0, 1]; 1 keeps every token.
        forced: tokens that are always kept, [num_tokens], bool.
        fixed_token_ratio: share of the tokens to keep in (0, 1], whatever their masses: k is then this share of
            num_tokens, rounded up, unless more are forced. `sparsity_p` below 1 has no say in it.

    Returns:
        Ascending positions of T, [k], int64.
    """
    num_tokens = mass.numel()
    if sparsity_p >= 1.0:
        return torch.arange(num_tokens, device=mass.device)
    if fixed_token_ratio is None:
        # float64: the crossing must not depend on the order of a float32 sum.
        covered = mass.double().sort(descending=True).values.cumsum(0)
        num_kept = int(torch.searchsorted(covered, sparsity_p * covered[-1])) + 1
    else:
        num_kept = math.ceil(fixed_token_ratio * num_tokens)
    num_kept = min(max(num_kept, int(forced.sum())), num_tokens)
    ranked = score.masked_fill(forced, float("inf")).sort(descending=True, stable=True).indices
    return ranked[:num_kept].sort().values
