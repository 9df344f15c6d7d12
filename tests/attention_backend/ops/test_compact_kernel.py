"""Slots and removals against the reference, row by row."""

import pytest
import torch

from attention_backend.ops.compact import compact_slots, plan_removal
from attention_backend.ops.compact.kernel import compact_slots_varlen

from .ragged import Step, make_step

SENTINEL = -77


def make_block_table(step: Step, block_size: int) -> torch.Tensor:
    """Distinct blocks for every row, in a table whose rows are wider than they look."""
    num_rows = 2 * len(step.prompts)
    num_columns = -(-max(prompt.num_tokens for prompt in step.prompts) // block_size)
    blocks = torch.randperm(num_rows * (num_columns + 3), generator=torch.Generator().manual_seed(0)).int() + 1
    return blocks.view(num_rows, -1)[:, :num_columns]


@pytest.mark.parametrize(
    "sizes",
    [[(2, 0)], [(15, 0), (16, 0), (17, 0)], [(63, 1), (64, 40), (65, 0)], [(1030, 7), (31, 0)]],
    ids=lambda sizes: "-".join(f"{prompt}+{generated}" for prompt, generated in sizes),
)
@pytest.mark.parametrize("block_size", [16, 32])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95, 1.0])
def test_equals_the_reference(sizes, block_size, share):
    step = make_step(sizes, share)
    block_table = make_block_table(step, block_size)
    removals = torch.full((int(block_table.max()) + 50, 3), SENTINEL, dtype=torch.int32)
    expected_slots = torch.full((step.num_tokens,), -1)
    expected_removals = removals.clone()
    for prompt, row in zip(step.prompts, step.batch.row.tolist(), strict=True):
        removal = plan_removal(prompt.num_prompt_tokens, prompt.kept.numel(), block_size)
        slots = compact_slots(block_table[row], removal, prompt.stored.numel(), block_size)
        expected_slots[prompt.start + prompt.stored] = slots
        expected_removals[block_table[row, 0]] = torch.tensor(removal, dtype=torch.int32)

    slots = compact_slots_varlen(step.rank, step.num_kept, step.batch, block_table, block_size, removals)
    assert slots.dtype == torch.int64
    assert torch.equal(slots, expected_slots)
    assert torch.equal(removals, expected_removals)


def test_slots_beyond_32_bits():
    """A pool of more than 2^28 blocks of 16 tokens: the slot does not fit an int32."""
    step = make_step([(20, 0)], kept=[list(range(20))])
    block_table = torch.tensor([[0, 0], [5, 2**28]], dtype=torch.int32)
    removals = torch.zeros(6, 3, dtype=torch.int32)
    slots = compact_slots_varlen(step.rank, step.num_kept, step.batch, block_table, 16, removals)
    assert slots[step.prompts[0].tokens].tolist() == [*range(80, 96), *range(2**32, 2**32 + 4)]
    assert removals[5].tolist() == [1, 0, 0]
