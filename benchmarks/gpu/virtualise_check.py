"""The virtualise kernel against its reference: many layers, requests that decode and requests that start."""

from collections.abc import Iterator

import torch

from attention_backend.ops.compact import plan_removal
from attention_backend.ops.virtualise import virtualise_block_table, virtualise_slot_mapping
from benchmarks.gpu.kernel_checks import Check
from benchmarks.gpu.prompts import BLOCK_SIZE

STARTING_TOKENS = 40


def check_virtualise(num_groups: int, num_reqs: int, max_blocks: int, device: torch.device) -> Iterator[Check]:
    """Half of the requests were pruned; the last two start, one dense and one sparse.

    Args:
        num_groups: layers.
        num_reqs: requests, at least 3; states are in reverse order of rows.
        max_blocks: columns of the block tables.
        device: where the kernel runs.
    """
    from attention_backend.ops.virtualise.kernel import virtualise_step

    generator = torch.Generator().manual_seed(0)
    starting = torch.arange(num_reqs) >= num_reqs - 2
    tokens_of_row = torch.where(starting, STARTING_TOKENS, 1)
    # Positions of decoding rows lie anywhere in the second half of their row.
    last = torch.randint(max_blocks * BLOCK_SIZE // 2, max_blocks * BLOCK_SIZE, (num_reqs,), generator=generator)
    seq_lens = torch.where(starting, STARTING_TOKENS, last + 1)
    row_of_token = torch.arange(num_reqs).repeat_interleave(tokens_of_row)
    query_start_loc = torch.cat([torch.zeros(1, dtype=torch.int64), tokens_of_row.cumsum(0)])
    positions = seq_lens[row_of_token] - query_start_loc[row_of_token + 1] + torch.arange(len(row_of_token))
    idx_mapping = torch.arange(num_reqs).flip(0)
    is_sparse = torch.zeros(num_reqs, dtype=torch.int32)
    pruned_rows = range(0, num_reqs - 2, 2)
    is_sparse[idx_mapping[[*pruned_rows, -1]]] = 1

    blocks = 1 + torch.randperm(num_groups * num_reqs * max_blocks, generator=generator).int()
    natural = blocks.view(num_groups, num_reqs, max_blocks)
    num_blocks = (-(-seq_lens // BLOCK_SIZE)).int()
    removals = torch.zeros(len(blocks) + 1, 3, dtype=torch.int32)
    row_removals = torch.zeros(num_groups, num_reqs, 3, dtype=torch.int32)
    # What an earlier owner left at the first blocks of starting rows must be forgotten.
    removals[natural[:, idx_mapping[starting], 0].flatten().long()] = 7
    for group in range(num_groups):
        for row in pruned_rows:
            prompt = int(seq_lens[row]) - 1 - row % BLOCK_SIZE
            removal = torch.tensor(plan_removal(prompt, max(4, prompt * (group + 1) // (num_groups + 1)), BLOCK_SIZE))
            row_removals[group, row] = removal
            removals[natural[group, idx_mapping[row], 0]] = removal.int()

    tables = [table.to(device) for table in natural]
    rows = [table[idx_mapping].to(device) for table in natural]
    slots = torch.stack([_slots(table[idx_mapping], row_of_token, positions) for table in natural]).to(device)
    expected_slots = slots.cpu().clone()
    lengths = torch.full((num_groups, num_reqs), -1, dtype=torch.int32, device=device)
    removals = removals.to(device)

    def pointers(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.tensor([tensor.data_ptr() for tensor in tensors], dtype=torch.uint64, device=device)

    virtualise_step(
        idx_mapping=idx_mapping.to(device),
        query_start_loc=query_start_loc.int().to(device),
        positions=positions.to(device),
        is_sparse_by_state=is_sparse.to(device),
        src_block_table_ptrs=pointers(tables),
        dst_block_table_ptrs=pointers(rows),
        block_table_strides=torch.full((num_groups,), max_blocks, dtype=torch.int64, device=device),
        slot_mappings=slots,
        seq_lens=seq_lens.int().to(device),
        removals=removals,
        virtual_seq_lens=lengths,
        block_size=BLOCK_SIZE,
        num_reqs=num_reqs,
    )
    expected_lengths = (seq_lens - row_removals[:, :, 2]).int()
    expected_lengths[:, -1] = 0
    wrong_blocks = 0
    for group in range(num_groups):
        table = virtualise_block_table(natural[group][idx_mapping], row_removals[group])
        in_use = torch.arange(max_blocks) < (num_blocks - row_removals[group, :, 1])[:, None]
        wrong_blocks += int(((rows[group].cpu() != table) & in_use).sum())
        virtualise_slot_mapping(expected_slots[group], positions, row_of_token, table, row_removals[group], BLOCK_SIZE)
    expected_slots[:, row_of_token == num_reqs - 1] = -1
    first_blocks = natural[:, idx_mapping[starting], 0].flatten().long().to(device)
    what = f"virtualise {num_groups} layers, {num_reqs} requests,"
    yield Check(f"{what} block tables", wrong_blocks, 0)
    yield Check(f"{what} slots", int((slots.cpu() != expected_slots).sum()), 0)
    yield Check(f"{what} lengths", int((lengths.cpu() != expected_lengths).sum()), 0)
    yield Check(f"{what} removals of starting rows", int((removals[first_blocks] != 0).sum()), 0)


def _slots(rows: torch.Tensor, row_of_token: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Natural slots of all tokens."""
    return rows[row_of_token, positions // BLOCK_SIZE].long() * BLOCK_SIZE + positions % BLOCK_SIZE
