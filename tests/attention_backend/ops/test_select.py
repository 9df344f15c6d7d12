"""The kept set: worked by hand, and its properties."""

import math

import pytest
import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.select import forced_tokens, select_tokens

NOTHING_FORCED = SparsityConfig(num_recent_tokens=1)


def select(mass, score, sparsity_p, forced=(), fixed_token_ratio=None):
    mask = torch.zeros(len(mass), dtype=torch.bool)
    mask[list(forced)] = True
    return select_tokens(torch.tensor(mass), torch.tensor(score), sparsity_p, mask, fixed_token_ratio).tolist()


def test_count_comes_from_mass_and_choice_from_score():
    # 0.5 + 0.3 reach 0.8 of the mass, so two are kept: the two of highest score.
    assert select([0.5, 0.3, 0.2], [0.1, 0.2, 0.9], 0.8) == [1, 2]


def test_element_that_crosses_the_threshold_is_kept():
    assert select([0.5, 0.25, 0.25], [0.9, 0.5, 0.1], 0.5) == [0]
    assert select([0.5, 0.25, 0.25], [0.9, 0.5, 0.1], 0.51) == [0, 1]


def test_forced_tokens_count_in_k():
    assert select([0.6, 0.3, 0.1], [0.9, 0.5, 0.1], 0.8, forced=[2]) == [0, 2]
    assert select([0.9, 0.05, 0.05], [0.9, 0.5, 0.1], 0.5, forced=[1, 2]) == [1, 2]


def test_equal_scores_keep_the_lower_position():
    assert select([0.25] * 4, [0.5] * 4, 0.5) == [0, 1]


def test_p_of_one_keeps_everything():
    assert select([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], 1.0) == [0, 1, 2]


def test_fixed_ratio_counts_columns_instead_of_mass():
    # 0.5 * 3 is rounded up to two; the mass rule would keep one.
    assert select([0.9, 0.05, 0.05], [0.1, 0.2, 0.9], 0.8) == [2]
    assert select([0.9, 0.05, 0.05], [0.1, 0.2, 0.9], 0.8, fixed_token_ratio=0.5) == [1, 2]
    assert select([0.9, 0.05, 0.05], [0.1, 0.2, 0.9], 0.8, fixed_token_ratio=1.0) == [0, 1, 2]


def test_fixed_ratio_keeps_forced_tokens_and_counts_them():
    assert select([0.9, 0.05, 0.05], [0.9, 0.5, 0.1], 0.8, forced=[1, 2], fixed_token_ratio=0.1) == [1, 2]
    assert select([0.9, 0.05, 0.05], [0.9, 0.5, 0.1], 0.8, forced=[2], fixed_token_ratio=0.6) == [0, 2]


@pytest.mark.parametrize(
    ("ratio", "num_tokens", "expected"), [(0.25, 8, 2), (0.25, 9, 3), (0.1, 30, 3), (0.07, 100, 8)]
)
def test_fixed_ratio_rounds_up_in_float64(ratio, num_tokens, expected):
    # 0.07 * 100 is 7.000000000000001 in float64, and so the eighth column is kept.
    assert len(select([1.0] * num_tokens, [1.0] * num_tokens, 0.5, fixed_token_ratio=ratio)) == expected


def test_p_of_one_keeps_everything_at_a_fixed_ratio_too():
    assert select([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], 1.0, fixed_token_ratio=0.1) == [0, 1, 2]


@pytest.mark.parametrize("num_tokens", [1, 3, 4, 5, 129])
def test_properties(num_tokens):
    torch.manual_seed(num_tokens)
    mass = torch.rand(num_tokens) ** 4
    score = mass / torch.rand(num_tokens).clamp_min(0.1)
    forced = forced_tokens(num_tokens, SparsityConfig(num_sink_tokens=1))
    previous = 0
    for sparsity_p in (0.1, 0.5, 0.9, 0.975, 0.99, 0.999999, 1.0):
        kept = select_tokens(mass, score, sparsity_p, forced)
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert set(forced.nonzero().flatten().tolist()) <= set(kept.tolist())
        assert len(kept) >= previous
        best = mass.sort(descending=True).values[: len(kept)].sum()
        assert best >= sparsity_p * mass.sum() * (1 - 1e-6)
        previous = len(kept)
    assert previous == num_tokens


def test_forced_tokens_are_sinks_and_recent_ones():
    config = SparsityConfig(num_sink_tokens=2, num_recent_tokens=3)
    assert forced_tokens(10, config).nonzero().flatten().tolist() == [0, 1, 7, 8, 9]
    assert forced_tokens(2, config).all()


@pytest.mark.parametrize("sparsity_p", [0.975, 0.9, 0.6])
def test_uniform_attention_keeps_the_closed_form_share(sparsity_p):
    """Uniform causal attention has column masses H_L - H_j; the kept share x solves x (1 - ln x) = p."""
    num_tokens = 4000
    mass = torch.tril(torch.ones(num_tokens, num_tokens) / torch.arange(1, num_tokens + 1)[:, None]).sum(0)
    kept = select_tokens(mass, mass, sparsity_p, forced_tokens(num_tokens, NOTHING_FORCED))
    share = len(kept) / num_tokens
    assert share * (1 - math.log(share)) == pytest.approx(sparsity_p, abs=2e-3)
