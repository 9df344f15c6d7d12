"""The importance kernels against the torch reference, under Triton's interpreter."""

import pytest
import torch

pytest.importorskip("triton")

from attention_backend.config import SparsityConfig
from attention_backend.ops.estimate import estimate_importance, probe_positions
from attention_backend.ops.estimate.kernel import estimate_importance_varlen

from .ragged import Step, make_step

# Probabilities that overflow belong to keys that a probe does not see; they are dropped afterwards.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

SCALE = 0.3
UNUSED = -(2**30)


def make_inputs(step: Step, num_heads: int, num_kv_heads: int, head_size: int, dtype=torch.float32):
    """Query and key as slices of one projection's output; NaN in every token that is no prompt token."""
    torch.manual_seed(step.num_tokens)
    sizes = [num_heads * head_size, num_kv_heads * head_size]
    projected = torch.randn(step.num_tokens, sum(sizes)).to(dtype)
    is_prompt = torch.zeros(step.num_tokens, dtype=torch.bool)
    for prompt in step.prompts:
        is_prompt[prompt.start : prompt.start + prompt.num_prompt_tokens] = True
    projected[~is_prompt] = float("nan")
    query, key = (part.unflatten(-1, (-1, head_size)) for part in projected.split(sizes, dim=-1))
    return query, key


def make_probes(step: Step, config: SparsityConfig):
    chosen = [probe_positions(prompt.num_prompt_tokens, 3, config).int() for prompt in step.prompts]
    num_probes = torch.tensor([positions.numel() for positions in chosen], dtype=torch.int32)
    probes = torch.full((len(chosen), int(num_probes.max())), UNUSED, dtype=torch.int32)
    for row, positions in zip(probes, chosen, strict=True):
        row[: positions.numel()] = positions
    return probes, num_probes


def reference(step: Step, query, key, probes, num_probes, dtype=torch.float32):
    """[2, num_step_tokens]; NaN where nothing is defined."""
    expected = torch.full((2, step.num_tokens), float("nan"))
    for index, prompt in enumerate(step.prompts):
        tokens = slice(prompt.start, prompt.start + prompt.num_prompt_tokens)
        positions = probes[index, : num_probes[index]].long()
        result = estimate_importance(query[tokens][positions].to(dtype), key[tokens].to(dtype), positions, SCALE)
        expected[:, tokens] = torch.stack(result)
    return expected


def check(sizes, num_heads, num_kv_heads, head_size, config, dtype=torch.float32):
    step = make_step(sizes)
    query, key = make_inputs(step, num_heads, num_kv_heads, head_size, dtype)
    probes, num_probes = make_probes(step, config)
    expected = reference(step, query, key, probes, num_probes)
    actual = estimate_importance_varlen(query, key, step.batch, probes, num_probes, SCALE)
    again = estimate_importance_varlen(query, key, step.batch, probes, num_probes, SCALE)
    defined = ~expected.isnan()
    assert defined.sum() == 2 * sum(length for length, _ in sizes)
    torch.testing.assert_close(actual[defined], expected[defined], rtol=2e-5, atol=1e-6)
    assert torch.equal(actual[defined], again[defined])


FEW_PROBES = SparsityConfig(num_recent_probes=5, num_random_probes=4)


@pytest.mark.parametrize("num_tokens", [2, 63, 64, 65, 127, 128, 129, 300])
def test_one_prompt(num_tokens):
    check([(num_tokens, 0)], 4, 2, 32, FEW_PROBES)


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads"), [(2, 2), (8, 2), (7, 1), (8, 1)], ids=["group-1", "group-4", "group-7", "group-8"]
)
def test_query_heads_share_kv_heads(num_heads, num_kv_heads):
    check([(150, 0)], num_heads, num_kv_heads, 32, FEW_PROBES)


@pytest.mark.parametrize("head_size", [32, 64, 80, 96, 112, 128])
def test_head_sizes(head_size):
    check([(70, 0)], 2, 1, head_size, FEW_PROBES)


def test_ragged_batch_with_generated_tokens():
    check([(130, 3), (2, 0), (257, 70)], 4, 2, 32, FEW_PROBES)


@pytest.mark.parametrize("num_recent_probes", [63, 64, 65, 128, 140])
def test_probe_counts_around_the_tile_sizes(num_recent_probes):
    check([(200, 0)], 2, 1, 32, SparsityConfig(num_recent_probes=num_recent_probes, num_random_probes=3))


def test_every_row_a_probe():
    """Probe tiles that see no key of a key tile are skipped, and the first prompt has fewer probes than the second."""
    check([(70, 0), (330, 0)], 2, 1, 32, SparsityConfig(exact=True))


def test_a_full_grid_does_not_split_the_keys(monkeypatch):
    monkeypatch.setattr("attention_backend.ops.estimate.kernel._FULL_GRID", 0)
    check([(130, 0), (300, 0)], 4, 2, 32, FEW_PROBES)


def test_half_precision_inputs_lose_nothing():
    """Products and sums are float32, so the rounding of the inputs is the only loss, and both sides share it.

    Not in bfloat16, whose products Triton's interpreter computes from the bits as integers.
    """
    check([(150, 2)], 4, 1, 64, FEW_PROBES, torch.float16)


def test_large_logits_do_not_overflow():
    step = make_step([(200, 0)])
    query, key = make_inputs(step, 2, 1, 32)
    probes, num_probes = make_probes(step, FEW_PROBES)
    query = query * 100
    expected = reference(step, query, key, probes, num_probes)
    actual = estimate_importance_varlen(query, key, step.batch, probes, num_probes, SCALE)
    defined = ~expected.isnan()
    # Logits near 1e3 leave about 1e-4 of each probability to float32.
    torch.testing.assert_close(actual[defined], expected[defined], rtol=2e-3, atol=1e-5)


def test_mass_worked_by_hand():
    """Keys 0, ln 2, ln 4 and queries of 1: rows (1), (1/3, 2/3), (1/7, 2/7, 4/7)."""
    step = make_step([(3, 0)])
    start = step.prompts[0].start
    query, key = torch.zeros(step.num_tokens, 1, 32), torch.zeros(step.num_tokens, 1, 32)
    query[:, 0, 0] = 1.0
    key[start : start + 3, 0, 0] = torch.tensor([1.0, 2.0, 4.0]).log()
    probes, num_probes = torch.arange(3, dtype=torch.int32)[None], torch.tensor([3], dtype=torch.int32)
    mass, score = estimate_importance_varlen(query, key, step.batch, probes, num_probes, 1.0)[:, start : start + 3]
    expected = torch.tensor([1 + 1 / 3 + 1 / 7, 2 / 3 + 2 / 7, 4 / 7])
    torch.testing.assert_close(mass, expected)
    torch.testing.assert_close(score, expected / torch.tensor([3.0, 2.0, 1.0]))
