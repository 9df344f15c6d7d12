"""The selection kernel against the torch reference, under Triton's interpreter."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from attention_backend.config import SparsityConfig
from attention_backend.ops.select import forced_tokens, select_tokens
from attention_backend.ops.select.kernel import select_tokens_varlen

from .ragged import Step, make_step

SENTINEL = -77


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch):
    """What a kernel does not write shows as SENTINEL."""
    empty = torch.empty

    def poisoned(*args, **kwargs):
        return empty(*args, **kwargs).fill_(SENTINEL)

    monkeypatch.setattr(torch, "empty", poisoned)


def masses(kind: str, num_tokens: int) -> torch.Tensor:
    torch.manual_seed(num_tokens)
    match kind:
        case "random":
            return torch.rand(num_tokens) ** 8
        case "heavy":
            return torch.rand(num_tokens).mul(40).sub(20).exp()
        case "ties":
            return torch.randint(0, 4, (num_tokens,)) / 4
        case "equal":
            return torch.full((num_tokens,), 0.1)
        case "denormal":
            return torch.randint(0, 3, (num_tokens,)) * 1e-42
        case "zero":
            return torch.zeros(num_tokens)
    raise AssertionError(kind)


def with_p(step: Step, sparsity_p: list[float]) -> Step:
    return replace(step, batch=replace(step.batch, sparsity_p=torch.tensor(sparsity_p, dtype=torch.float64)))


def check(step: Step, importance: torch.Tensor, config: SparsityConfig, fixed_token_ratio: float | None = None):
    """Every written entry equals the reference's, every other one is untouched."""
    rank, num_kept = select_tokens_varlen(
        importance, step.batch, config.num_sink_tokens, config.num_recent_tokens, fixed_token_ratio
    )
    expected = torch.full_like(rank, SENTINEL)
    for index, prompt in enumerate(step.prompts):
        length, start = prompt.num_prompt_tokens, prompt.start
        mass, score = importance[:, start : start + length]
        p = step.batch.sparsity_p[index].item()
        kept = select_tokens(mass, score, p, forced_tokens(length, config), fixed_token_ratio)
        assert num_kept[index] == kept.numel()
        expected[start : start + length] = -1
        expected[start + kept] = torch.arange(kept.numel(), dtype=torch.int32)
        generated = torch.arange(prompt.num_generated, dtype=torch.int32)
        expected[start + length : start + prompt.num_tokens] = kept.numel() + generated
    assert rank.tolist() == expected.tolist()


def importance_of(step: Step, mass_kind: str, score_kind: str) -> torch.Tensor:
    importance = torch.stack([masses(mass_kind, step.num_tokens), masses(score_kind, step.num_tokens + 1)[:-1]])
    importance[:, ~step.is_sparse] = float("nan")
    return importance


@pytest.mark.parametrize("sparsity_p", [1e-9, 0.5, 0.9, 0.975, 0.999999])
@pytest.mark.parametrize("num_tokens", [2, 5, 64, 301])
def test_one_prompt(num_tokens, sparsity_p):
    step = with_p(make_step([(num_tokens, 0)]), [sparsity_p])
    check(step, importance_of(step, "random", "heavy"), SparsityConfig())


@pytest.mark.parametrize("score_kind", ["random", "ties", "equal", "denormal", "zero"])
@pytest.mark.parametrize("mass_kind", ["heavy", "ties", "equal", "denormal", "zero"])
def test_ties_zeros_and_denormals(mass_kind, score_kind):
    step = with_p(make_step([(130, 0)]), [0.8])
    check(step, importance_of(step, mass_kind, score_kind), SparsityConfig(num_sink_tokens=2, num_recent_tokens=3))


def test_more_tokens_than_a_block_with_ties_across_it():
    step = with_p(make_step([(2500, 1200)]), [0.9])
    check(step, importance_of(step, "ties", "ties"), SparsityConfig())


def test_the_block_of_long_prompts():
    step = with_p(make_step([(4200, 2)]), [0.6])
    check(step, importance_of(step, "random", "ties"), SparsityConfig())


@pytest.mark.parametrize("fixed_token_ratio", [None, 0.3])
def test_ragged_batch_with_generated_tokens(fixed_token_ratio):
    step = with_p(make_step([(2, 1), (300, 0), (77, 90)]), [0.5, 0.9, 0.975])
    check(step, importance_of(step, "random", "heavy"), SparsityConfig(num_sink_tokens=1), fixed_token_ratio)


@pytest.mark.parametrize("fixed_token_ratio", [1e-6, 0.1, 0.29, 0.57, 1.0])
def test_fixed_ratio_rounds_up_as_float64_does(fixed_token_ratio):
    """0.29 * 100 is a little less than 29 in float64, 0.57 * 100 less than 57 and 0.1 * 10 just 1."""
    step = with_p(make_step([(100, 0), (10, 0), (200, 0), (3, 0)]), [0.5] * 4)
    check(step, importance_of(step, "random", "heavy"), SparsityConfig(num_recent_tokens=1), fixed_token_ratio)


def test_sinks_and_recent_tokens_may_be_the_whole_prompt():
    step = with_p(make_step([(20, 0)]), [0.1])
    check(step, importance_of(step, "random", "heavy"), SparsityConfig(num_sink_tokens=15, num_recent_tokens=15))


def test_p_of_one_keeps_everything():
    step = with_p(make_step([(100, 3)]), [1.0])
    check(step, importance_of(step, "random", "heavy"), SparsityConfig())


def test_counts_worked_by_hand():
    """0.5 + 0.25 reach 0.75 of the mass; of the equal scores the lower position is kept beside the forced last one."""
    step = with_p(make_step([(4, 2)]), [0.75])
    start = step.prompts[0].start
    importance = torch.full((2, step.num_tokens), float("nan"))
    importance[0, start : start + 4] = torch.tensor([0.125, 0.5, 0.25, 0.125])
    importance[1, start : start + 4] = torch.tensor([0.1, 0.3, 0.3, 0.1])
    rank, num_kept = select_tokens_varlen(importance, step.batch, 0, 1)
    assert num_kept.tolist() == [2]
    assert rank[step.prompts[0].tokens].tolist() == [-1, 0, -1, 1, 2, 3]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0], ids=["nan", "inf", "negative"])
def test_bad_numbers_stay_within_the_prompt(value):
    """The choice is unspecified, but it ends, its ranks are an index of T, and no other token is touched."""
    step = with_p(make_step([(90, 2)]), [0.9])
    importance = importance_of(step, "random", "heavy")
    prompt = step.prompts[0]
    importance[:, prompt.start + 10 : prompt.start + 20] = value
    rank, num_kept = select_tokens_varlen(importance, step.batch, 0, 4)
    k = int(num_kept)
    assert 4 <= k <= 90
    ranks = rank[prompt.start : prompt.start + 90]
    assert ranks[ranks >= 0].tolist() == list(range(k))
    assert ranks.min() >= -1
    assert (rank[~step.is_sparse] == SENTINEL).all()
