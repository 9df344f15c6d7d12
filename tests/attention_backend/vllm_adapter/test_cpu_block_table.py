"""Slot mappings of all layers at once: block number times block size, and the place in the block."""

import numpy as np
import pytest
import torch
from vllm.v1.worker.block_table import MultiGroupBlockTable

from attention_backend.vllm_adapter.cpu_block_table import TopPBlockTables

BLOCK_SIZE, NUM_LAYERS, MAX_NUM_REQS, MAX_NUM_TOKENS = 32, 3, 6, 96


def tables(rows: list[list[list[int]]]) -> MultiGroupBlockTable:
    """Tables whose row i holds the blocks `rows[i][layer]`."""
    made = MultiGroupBlockTable(
        MAX_NUM_REQS, MAX_NUM_TOKENS, False, torch.device("cpu"), [BLOCK_SIZE] * NUM_LAYERS, [8] * NUM_LAYERS
    )
    for index, row in enumerate(rows):
        made.add_row(tuple(row), index)
    made.commit_block_table(len(rows))
    for table in made.block_tables:
        table.slot_mapping.gpu.fill_(12345)
    return made


@pytest.mark.parametrize(
    "spans",
    [
        pytest.param([(0, 1)], id="one token"),
        pytest.param([(40, 41), (31, 32), (32, 33), (95, 96)], id="decode at block edges"),
        pytest.param([(0, 33), (70, 71), (12, 40)], id="prompt, decode and the rest of a prompt"),
        pytest.param([(0, 64), (0, 32)], id="all tokens that fit"),
    ],
)
def test_slots_of_every_layer(spans):
    numbers = np.random.default_rng(0).permutation(np.arange(1, 1000))
    rows, first = [], 0
    for _, end in spans:
        num_blocks = -(-end // BLOCK_SIZE)
        rows.append(numbers[first : first + NUM_LAYERS * num_blocks].reshape(NUM_LAYERS, -1).tolist())
        first += NUM_LAYERS * num_blocks
    query_start_loc = torch.tensor([0, *np.cumsum([end - start for start, end in spans])], dtype=torch.int32)
    positions = torch.cat([torch.arange(start, end) for start, end in spans])
    made = tables(rows)
    TopPBlockTables.take_over(made)
    made.compute_slot_mapping(len(spans), query_start_loc, positions)
    for layer in range(NUM_LAYERS):
        expected = [
            row[layer][position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE
            for row, (start, end) in zip(rows, spans, strict=True)
            for position in range(start, end)
        ]
        padded = expected + [-1] * (MAX_NUM_TOKENS - len(expected))
        assert made[layer].slot_mapping.gpu.tolist() == padded


def test_an_empty_batch_is_all_padding():
    made = tables([])
    TopPBlockTables.take_over(made)
    made.compute_slot_mapping(0, torch.zeros(1, dtype=torch.int32), torch.zeros(0, dtype=torch.int64))
    assert all((table.slot_mapping.gpu == -1).all() for table in made.block_tables)
