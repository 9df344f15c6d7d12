"""Compaction and the virtual row, worked by hand and simulated token by token."""

import pytest
import torch

from attention_backend.ops.compact import Removal, compact_slots, plan_removal
from attention_backend.ops.virtualise import virtualise_block_table, virtualise_slot_mapping


@pytest.mark.parametrize(
    ("num_prompt_tokens", "num_kept", "expected"),
    [
        (100, 20, Removal(2, 4, 80)),  # 6 full blocks of 16, 2 hold 20 tokens
        (100, 100, Removal(6, 0, 0)),
        (100, 97, Removal(6, 0, 3)),
        (96, 1, Removal(1, 5, 95)),  # the block of position 96 comes next and stays
        (15, 4, Removal(0, 0, 11)),  # less than a block: nothing to free
        (16, 16, Removal(1, 0, 0)),
    ],
)
def test_plan_removal(num_prompt_tokens, num_kept, expected):
    assert plan_removal(num_prompt_tokens, num_kept, 16) == expected


def test_virtual_row_skips_the_gap():
    row = torch.tensor([[7, 3, 9, 4, 8, 1]], dtype=torch.int32)
    removal = torch.tensor([[2, 3, 50]], dtype=torch.int32)
    assert virtualise_block_table(row, removal)[0, :3].tolist() == [7, 3, 1]


@pytest.mark.parametrize("block_size", [1, 16, 32])
@pytest.mark.parametrize("num_prompt_tokens", [1, 15, 16, 17, 63, 64, 65, 130])
def test_every_token_has_a_slot_of_its_own_in_blocks_that_stay(num_prompt_tokens, block_size):
    """Prefill, then decode 40 tokens, for every number of kept tokens: no hole, no overlap, no freed block."""
    generator = torch.Generator().manual_seed(num_prompt_tokens)
    num_tokens = num_prompt_tokens + 40
    num_blocks = -(-num_tokens // block_size)
    row = torch.randperm(1000, generator=generator)[:num_blocks].int() + 1
    for num_kept in range(1, num_prompt_tokens + 1):
        removal = plan_removal(num_prompt_tokens, num_kept, block_size)
        gap = row[removal.kept_blocks : removal.kept_blocks + removal.removed_blocks]
        used = compact_slots(row, removal, num_kept, block_size).tolist()
        removals = torch.tensor([removal], dtype=torch.int32)
        virtual = virtualise_block_table(row[None], removals)
        for position in range(num_prompt_tokens, num_tokens):
            slot_mapping = row[[position // block_size]].long() * block_size + position % block_size
            virtualise_slot_mapping(
                slot_mapping, torch.tensor([position]), torch.zeros(1, dtype=torch.long), virtual, removals, block_size
            )
            used.append(int(slot_mapping))
        assert len(set(used)) == num_kept + 40
        assert not {slot // block_size for slot in used} & set(gap.tolist())
        # Stock kernels read the virtual row in order: token v lies at its v-th slot.
        expected = [int(virtual[0, v // block_size]) * block_size + v % block_size for v in range(num_kept + 40)]
        assert used == expected
        # Recomputed tokens of a preempted request land where decoding had put them.
        assert compact_slots(row, removal, num_kept + 40, block_size).tolist() == used


def test_unpruned_requests_are_left_alone():
    table = torch.arange(1, 13, dtype=torch.int32).view(2, 6)
    removals = torch.tensor([[0, 0, 0], [1, 2, 40]], dtype=torch.int32)
    assert torch.equal(virtualise_block_table(table, removals)[0], table[0])
    slot_mapping = torch.tensor([17, 18, 999])
    positions, request_of_token = torch.tensor([1, 2, 63]), torch.tensor([0, 0, 1])
    virtual = virtualise_block_table(table, removals)
    virtualise_slot_mapping(slot_mapping, positions, request_of_token, virtual, removals, 16)
    # Token 63 of the pruned request sits at index 23 of row 7, 10, 11, 12: block 10, offset 7.
    assert slot_mapping.tolist() == [17, 18, 10 * 16 + 7]
