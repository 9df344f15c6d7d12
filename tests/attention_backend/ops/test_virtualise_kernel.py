"""One launch over layers and rows, against a plain loop and against the reference."""

from dataclasses import dataclass, fields

import pytest
import torch

from attention_backend.ops.compact import plan_removal
from attention_backend.ops.virtualise import virtualise_block_table, virtualise_slot_mapping
from attention_backend.ops.virtualise.kernel import virtualise_step

BLOCK_SIZE = 16
MAX_NUM_REQS = 9
MAX_NUM_BLOCKS = 200
SENTINEL = -77
# Blocks that a request owns already and has no tokens for.
BLOCKS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Row:
    """A request in a step: `length` tokens after it, of which `num_new` are computed now."""

    length: int
    num_new: int = 1
    sparsity_p: float = 0.9
    # Per layer, tokens that pruning kept of a prompt of `num_prompt_tokens`; none when the request is not pruned.
    num_prompt_tokens: int = 0
    num_kept: tuple[int, ...] = ()
    state: int | None = None

    @property
    def starts(self) -> bool:
        return self.length == self.num_new


@dataclass(frozen=True, slots=True)
class Buffers:
    """What vLLM's runner and ours hold for a step; names as in `virtualise_step`."""

    idx_mapping: torch.Tensor
    query_start_loc: torch.Tensor
    positions: torch.Tensor
    is_sparse_by_state: torch.Tensor
    src_block_tables: list[torch.Tensor]
    dst_block_tables: list[torch.Tensor]
    slot_mappings: torch.Tensor
    seq_lens: torch.Tensor
    removals: torch.Tensor
    virtual_seq_lens: torch.Tensor

    def copy(self) -> "Buffers":
        values = [getattr(self, field.name) for field in fields(self)]
        return Buffers(*([t.clone() for t in v] if isinstance(v, list) else v.clone() for v in values))

    def differing(self, other: "Buffers") -> list[str]:
        """Names of the buffers whose contents differ."""
        names = []
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            pairs = zip(mine, theirs, strict=True) if isinstance(mine, list) else [(mine, theirs)]
            if not all(torch.equal(a, b) for a, b in pairs):
                names.append(field.name)
        return names


def make_buffers(rows: list[Row], num_groups: int = 2, num_padded_rows: int = 2) -> Buffers:
    """Natural tables, slots and lengths as vLLM's own kernels leave them; old removals linger at first blocks."""
    generator = torch.Generator().manual_seed(len(rows))
    num_reqs, num_tokens = len(rows), sum(row.num_new for row in rows)
    states = torch.randperm(MAX_NUM_REQS, generator=generator)[:num_reqs]
    for index, row in enumerate(rows):
        if row.state is not None:
            states[index] = row.state
    ends = torch.tensor([row.num_new for row in rows]).cumsum(0)
    buffers = Buffers(
        idx_mapping=states,
        query_start_loc=torch.tensor([0, *ends, *[num_tokens] * num_padded_rows], dtype=torch.int32),
        positions=torch.cat([torch.arange(row.length - row.num_new, row.length) for row in rows]),
        is_sparse_by_state=torch.full((MAX_NUM_REQS,), SENTINEL, dtype=torch.int32),
        src_block_tables=[],
        dst_block_tables=[],
        slot_mappings=torch.full((num_groups, num_tokens + 11), -1),
        seq_lens=torch.tensor([row.length for row in rows] + [0] * num_padded_rows, dtype=torch.int32),
        removals=torch.full((num_groups * MAX_NUM_REQS * MAX_NUM_BLOCKS + 1, 3), 2, dtype=torch.int32),
        virtual_seq_lens=torch.full((num_groups, num_reqs + num_padded_rows + 3), SENTINEL, dtype=torch.int32),
    )
    buffers.removals[0] = 0
    blocks = torch.randperm(buffers.removals.shape[0] - 1, generator=generator).int() + 1
    for group, natural in enumerate(blocks.view(num_groups, MAX_NUM_REQS, MAX_NUM_BLOCKS)):
        # Tables of different widths; storage starts at a multiple of 16 bytes as torch allocates it.
        natural = natural[:, : MAX_NUM_BLOCKS - 8 * group].contiguous()
        table = torch.full_like(natural, SENTINEL)
        buffers.src_block_tables.append(natural)
        buffers.dst_block_tables.append(table)
        for index, row in enumerate(rows):
            state = int(states[index])
            if state < 0:
                continue
            buffers.is_sparse_by_state[state] = row.sparsity_p < 1
            num_blocks = -(-row.length // BLOCK_SIZE) + BLOCKS_AHEAD
            natural[state, num_blocks:] = SENTINEL
            table[index, :num_blocks] = natural[state, :num_blocks]
            tokens = slice(int(buffers.query_start_loc[index]), int(buffers.query_start_loc[index + 1]))
            position = buffers.positions[tokens]
            slots = natural[state, position // BLOCK_SIZE].long() * BLOCK_SIZE + position % BLOCK_SIZE
            buffers.slot_mappings[group, tokens] = slots
            if not row.starts and row.sparsity_p < 1:
                removal = plan_removal(row.num_prompt_tokens, row.num_kept[group], BLOCK_SIZE) if row.num_kept else 0
                buffers.removals[natural[state, 0]] = torch.tensor(removal, dtype=torch.int32)
    return buffers


def by_kernel(buffers: Buffers, num_reqs: int) -> Buffers:
    result = buffers.copy()

    def addresses(tables: list[torch.Tensor]) -> torch.Tensor:
        return torch.tensor([table.data_ptr() for table in tables], dtype=torch.uint64)

    virtualise_step(
        result.idx_mapping,
        result.query_start_loc,
        result.positions,
        result.is_sparse_by_state,
        addresses(result.src_block_tables),
        addresses(result.dst_block_tables),
        torch.tensor([table.stride(0) for table in result.src_block_tables]),
        result.slot_mappings,
        result.seq_lens,
        result.removals,
        result.virtual_seq_lens,
        BLOCK_SIZE,
        num_reqs,
    )
    return result


def by_loop(buffers: Buffers, num_reqs: int) -> Buffers:
    result = buffers.copy()
    for group, (natural, table) in enumerate(zip(result.src_block_tables, result.dst_block_tables, strict=True)):
        for row, seq_len in enumerate(result.seq_lens.tolist()):
            result.virtual_seq_lens[group, row] = 0
            if row >= num_reqs or (state := int(result.idx_mapping[row])) < 0:
                continue
            tokens = range(int(result.query_start_loc[row]), int(result.query_start_loc[row + 1]))
            first_block, is_sparse = natural[state, 0], bool(result.is_sparse_by_state[state])
            if result.positions[tokens.start] == 0:
                result.removals[first_block] = 0
                if is_sparse:
                    result.slot_mappings[group, tokens] = -1
                else:
                    result.virtual_seq_lens[group, row] = seq_len
                continue
            removal = result.removals[first_block].tolist() if is_sparse else [0, 0, 0]
            kept_blocks, removed_blocks, removed_tokens = removal
            result.virtual_seq_lens[group, row] = seq_len - removed_tokens
            num_used_blocks = -(-seq_len // BLOCK_SIZE)
            for column in range(kept_blocks, num_used_blocks - removed_blocks):
                table[row, column] = natural[state, column + removed_blocks]
            for token in tokens if removed_tokens else ():
                index = int(result.positions[token]) - removed_tokens
                slot = int(table[row, index // BLOCK_SIZE]) * BLOCK_SIZE + index % BLOCK_SIZE
                result.slot_mappings[group, token] = slot
    return result


DENSE_DECODE = Row(100, sparsity_p=1.0)
DENSE_PREFILL = Row(40, num_new=40, sparsity_p=1.0)
DENSE_SUFFIX = Row(80, num_new=32, sparsity_p=1.0)
SPARSE_PREFILL = Row(1100, num_new=1100)
SPARSE_SHORT_PREFILL = Row(2, num_new=2)
SPARSE_DECODE = Row(105, num_prompt_tokens=100, num_kept=(20, 30))
SPARSE_LONG_DECODE = Row(3000, num_prompt_tokens=500, num_kept=(20, 499))
ONE_LAYER_KEPT_ALL = Row(105, num_prompt_tokens=100, num_kept=(100, 5))
LESS_THAN_A_BLOCK_REMOVED = Row(101, num_prompt_tokens=100, num_kept=(97, 99))
SEVERAL_NEW_TOKENS = Row(230, num_new=130, num_prompt_tokens=100, num_kept=(3, 98))
SHORT_PROMPT = Row(16, num_prompt_tokens=15, num_kept=(4, 4))
NEVER_PRUNED = Row(50)
DUMMY = Row(1, state=-1)


@pytest.mark.parametrize(
    "rows",
    [
        [DENSE_DECODE],
        [DENSE_PREFILL, DENSE_DECODE, DENSE_SUFFIX],
        [SPARSE_PREFILL],
        [SPARSE_DECODE],
        [SPARSE_LONG_DECODE, SPARSE_DECODE, DENSE_DECODE],
        [ONE_LAYER_KEPT_ALL, LESS_THAN_A_BLOCK_REMOVED, SHORT_PROMPT],
        [SEVERAL_NEW_TOKENS, NEVER_PRUNED],
        [DENSE_DECODE, SPARSE_DECODE, SPARSE_SHORT_PREFILL, DENSE_PREFILL, SPARSE_PREFILL, ONE_LAYER_KEPT_ALL],
        [SPARSE_DECODE, DUMMY, DENSE_DECODE],
    ],
    ids=[
        "dense-decode",
        "dense-mixed",
        "sparse-prefill",
        "sparse-decode",
        "decode-mixed",
        "little-removed",
        "several-tokens",
        "everything",
        "dummy",
    ],
)
@pytest.mark.parametrize("num_padded_rows", [0, 3])
def test_equals_a_plain_loop_in_every_buffer(rows, num_padded_rows):
    """Equal in all buffers: what needs no change is not touched, sentinels included."""
    buffers = make_buffers(rows, num_padded_rows=num_padded_rows)
    assert by_kernel(buffers, len(rows)).differing(by_loop(buffers, len(rows))) == []


def test_decoding_equals_the_reference():
    rows = [SPARSE_LONG_DECODE, DENSE_DECODE, SEVERAL_NEW_TOKENS, ONE_LAYER_KEPT_ALL, SHORT_PROMPT, NEVER_PRUNED]
    buffers = make_buffers(rows)
    result = by_kernel(buffers, len(rows))
    request_of_token = torch.repeat_interleave(torch.tensor([row.num_new for row in rows]))
    for group, natural in enumerate(buffers.dst_block_tables):
        first_blocks = natural[: len(rows), 0].long()
        removals = buffers.removals[first_blocks]
        removals[[row.sparsity_p == 1 for row in rows]] = 0
        expected = virtualise_block_table(natural[: len(rows)], removals)
        for index, row in enumerate(rows):
            length = row.length - int(removals[index, 2])
            num_blocks = -(-row.length // BLOCK_SIZE) - int(removals[index, 1])
            assert result.virtual_seq_lens[group, index] == length
            assert torch.equal(result.dst_block_tables[group][index, :num_blocks], expected[index, :num_blocks])
        slots = buffers.slot_mappings[group, : buffers.positions.numel()].clone()
        virtualise_slot_mapping(slots, buffers.positions, request_of_token, expected, removals, BLOCK_SIZE)
        assert torch.equal(result.slot_mappings[group, : slots.numel()], slots)


def test_a_prefix_hit_in_the_step_that_fills_the_prefix_is_left_alone():
    """Its first block still carries what an earlier owner had removed, until the row that fills it resets it."""
    buffers = make_buffers([DENSE_PREFILL, DENSE_SUFFIX])
    filling, hitting = buffers.idx_mapping.tolist()
    for natural, table in zip(buffers.src_block_tables, buffers.dst_block_tables, strict=True):
        natural[hitting, :2] = natural[filling, :2]
        table[1, :2] = natural[filling, :2]
    result = by_kernel(buffers, 2)
    assert result.virtual_seq_lens[:, :2].tolist() == [[40, 80], [40, 80]]
    assert all(map(torch.equal, result.dst_block_tables, buffers.dst_block_tables))
    assert torch.equal(result.slot_mappings, buffers.slot_mappings)


def test_it_repeats_itself():
    """A second run over its own results changes nothing: it reads natural tables and positions only."""
    rows = [SPARSE_LONG_DECODE, DENSE_DECODE, SPARSE_PREFILL]
    once = by_kernel(make_buffers(rows), len(rows))
    assert by_kernel(once, len(rows)).differing(once) == []
