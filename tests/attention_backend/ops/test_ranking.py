"""Scores that know nothing of attention: worked by hand, their properties, and the kernel against the reference."""

import pytest
import torch

pytest.importorskip("triton")

from attention_backend.ops.ranking import baseline_score
from attention_backend.ops.ranking.kernel import write_baseline_scores

from .ragged import make_step

UINT32 = 0xFFFFFFFF


def mixed(bits: int) -> int:
    """MurmurHash3's finaliser in whole numbers that do not wrap."""
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B & UINT32
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35 & UINT32
    return bits ^ (bits >> 16)


def order(num_tokens: int, layer: int, ranking: str = "random") -> list[int]:
    return baseline_score(num_tokens, layer, ranking).argsort(descending=True, stable=True).tolist()


def test_the_finaliser_is_the_published_one():
    # MurmurHash3 of the empty key under seeds 0 and 1.
    assert (mixed(0), mixed(1)) == (0, 0x514E28B7)


def test_recent_ranks_by_position():
    assert baseline_score(4, 7, "recent").tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("num_tokens", [1, 2, 63, 300, 5_000_000])
def test_random_is_the_formula_of_the_readme(num_tokens):
    score = baseline_score(num_tokens, 3, "random")
    seed = mixed((1009 * num_tokens + 3) & UINT32)
    for position in {0, num_tokens // 2, num_tokens - 1}:
        assert score[position].item() == mixed(position ^ seed) >> 8


def test_random_is_drawn_by_length_and_layer_and_nothing_else():
    torch.manual_seed(1)
    first = order(200, 3)
    torch.manual_seed(2)
    assert order(200, 3) == first
    assert sorted(first) == list(range(200))
    assert first != order(200, 4)
    assert first != [position for position in order(201, 3) if position < 200]


def test_random_favours_no_part_of_the_prompt():
    """Of the quarter of highest score, a quarter lies in each quarter of the prompt, in every layer."""
    for layer in range(28):
        kept = torch.tensor(order(4096, layer)[:1024])
        for quarter in torch.histc(kept.float(), bins=4, min=0, max=4096).tolist():
            # Five standard deviations of the hypergeometric distribution, 12 each.
            assert abs(quarter - 256) < 60


def test_layers_draw_independently():
    kept = [set(order(4096, layer)[:1024]) for layer in range(28)]
    for layer in range(27):
        assert abs(len(kept[layer] & kept[layer + 1]) - 256) < 60


@pytest.mark.parametrize("layer", [0, 1, 16, 27])
@pytest.mark.parametrize("ranking", ["random", "recent"])
def test_kernel_writes_the_scores_of_prompt_tokens_and_nothing_else(ranking, layer):
    step = make_step([(2, 1), (1300, 0), (77, 90), (1, 0)])
    importance = torch.full((2, step.num_tokens), float("nan"))
    write_baseline_scores(importance, step.batch, layer, ranking)
    expected = torch.full_like(importance, float("nan"))
    for prompt in step.prompts:
        length = prompt.num_prompt_tokens
        expected[1, prompt.start : prompt.start + length] = baseline_score(length, layer, ranking)
    assert torch.equal(importance.view(torch.int32), expected.view(torch.int32))
