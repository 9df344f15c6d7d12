"""Rewards, schedules and the two sparsity terms against numbers worked by hand."""

import math

import pytest
import torch

from training.objective import (
    TERMS,
    SparsityTerm,
    collapse_guard,
    ease,
    group_mean,
    log_kept_mass,
    pathwise_token_ratio,
    rollout_sparsity_p,
)


def test_the_papers_grid_runs_over_0_94_to_0_975_by_0_005():
    drawn = rollout_sparsity_p("grid", 0.94, 0.975, 8, range(8))
    assert drawn == pytest.approx([0.975, 0.97, 0.965, 0.96, 0.955, 0.95, 0.945, 0.94])


def test_a_rank_continues_the_grid_where_the_rank_before_it_ends():
    whole = rollout_sparsity_p("grid", 0.5, 0.8, 4, range(8))
    ranks = [rollout_sparsity_p("grid", 0.5, 0.8, 4, range(first, first + 2)) for first in (0, 2, 4, 6)]
    assert [value for rank in ranks for value in rank] == whole


def test_uniform_draws_lie_in_the_range_and_come_from_the_generator():
    draws = [rollout_sparsity_p("uniform", 0.2, 0.4, 8, range(1000), torch.Generator().manual_seed(3)) for _ in "ab"]
    assert draws[0] == draws[1]
    assert 0.2 <= min(draws[0]) < 0.21
    assert 0.39 < max(draws[0]) <= 0.4
    assert min(rollout_sparsity_p("uniform", 0.0, 0.0, 8, range(3))) > 0


def test_the_guard_takes_the_efficiency_reward_from_groups_without_a_correct_rollout():
    reward = torch.tensor([0.2, 0.4, 0.6, 0.8])
    correct = torch.tensor([False, False, True, False])
    assert collapse_guard(reward, correct, 2).tolist() == pytest.approx([0.0, 0.0, 0.6, 0.8])


def test_pressure_fades_towards_the_target():
    rates = torch.tensor([1.0, 0.95, 0.925, 0.9, 0.4])
    assert ease(rates, target=0.9, width=0.05).tolist() == pytest.approx([1.0, 1.0, 0.5, 0.0, 0.0], abs=1e-5)


def test_a_group_has_one_mean_for_all_its_rollouts():
    assert group_mean(torch.tensor([1.0, 0.0, 1.0, 1.0]), 2).tolist() == [0.5, 0.5, 1.0, 1.0]


def test_the_mask_term_is_the_log_share_and_moves_mass_into_the_kept_set():
    mass = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    value = log_kept_mass(mass, torch.tensor([1, 2]))
    value.backward()
    assert value.item() == pytest.approx(math.log(7 / 8))
    # d log(7/8): 1/7 - 1/8 for kept masses, -1/8 for the other.
    assert mass.grad.tolist() == pytest.approx([-1 / 8, 1 / 56, 1 / 56])


def test_the_pathwise_term_is_the_token_ratio_with_its_derivative():
    mass = torch.tensor([0.1, 0.6, 0.3], requires_grad=True)
    value = pathwise_token_ratio(mass, 0.7)
    value.backward()
    # Two columns reach .7 (.6 + .3); the smaller is .3. d ratio = -dF / (3 * .3), F = (m1 + m2) / sum.
    assert value.item() == pytest.approx(2 / 3)
    assert mass.grad.tolist() == pytest.approx([0.9 / 0.9, -0.1 / 0.9, -0.1 / 0.9])


def test_the_pathwise_derivative_agrees_with_a_finite_change_of_the_masses():
    torch.manual_seed(0)
    logits = torch.randn(4000, dtype=torch.float64) * 1.5
    direction = logits.clone()  # sharper: a known way to fewer tokens

    def kept(step: float) -> int:
        share = (logits + step * direction).softmax(0).sort(descending=True).values
        return int(torch.searchsorted(share.cumsum(0), 0.95)) + 1

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    pathwise_token_ratio((logits + step * direction).softmax(0), 0.95).backward()
    finite = (kept(0.05) - kept(-0.05)) / (0.1 * 4000)
    assert step.grad.item() == pytest.approx(finite, rel=0.05)
    assert finite < 0


@pytest.mark.parametrize("kind", ["mask", "pathwise", "both"])
def test_a_term_rides_on_the_output_and_follows_the_scale_of_the_loss(kind):
    torch.manual_seed(0)
    weight = torch.rand(6, requires_grad=True)
    kept = torch.tensor([0, 3])
    parts = {"mask": log_kept_mass(weight, kept), "pathwise": pathwise_token_ratio(weight, 0.5)}
    plain = sum(parts[part] for part in TERMS[kind])
    expected = torch.autograd.grad(plain, weight)[0]

    term = SparsityTerm({part: [0.0, 3.0] for part in TERMS[kind]}, num_layers=2)
    output = term.attach(weight * 0.0, 0, [term.of_row(1, weight, kept, 0.5)])
    loss = term.join(output.sum())
    (loss * 8).backward()
    torch.testing.assert_close(weight.grad, expected * 8 * 3 / 2)
    assert loss.item() == pytest.approx(plain.item() * 1.5)
