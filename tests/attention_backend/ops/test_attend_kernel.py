"""Packing and attention kernels against the reference, with poison wherever they must not look or write."""

from typing import NamedTuple

import pytest
import torch

from attention_backend.ops.attend import attend_selected
from attention_backend.ops.attend.kernel import (
    Tiles,
    attend_keys,
    choose_tiles,
    pack_positions,
    pack_rows,
    stored_offsets,
    unpack_rows,
)

from .ragged import Step, make_step

SMALL = Tiles(rows=32, keys=16, num_warps=4, num_stages=1)
SCALE = 0.2
NAN = float("nan")
# Half a unit in the last place of an output of size one, for cases in which torch happens to be exact.
FLOOR = {torch.float32: 6e-8, torch.float16: 5e-4}


class Rows(NamedTuple):
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor


def make_rows(step: Step, num_heads=4, num_kv_heads=2, head_size=32, dtype=torch.float32) -> Rows:
    """Slices of one fused projection; NaN outside the sparse prompts."""
    generator = torch.Generator().manual_seed(step.num_tokens)
    width = num_heads + 2 * num_kv_heads
    fused = torch.randn(step.num_tokens, width, head_size, generator=generator).to(dtype)
    fused[~step.is_sparse] = NAN
    return Rows(*fused.split([num_heads, num_kv_heads, num_kv_heads], dim=1))


def poison_dropped(step: Step, rows: Rows, also_query: bool) -> None:
    """NaN in the keys and values of every dropped token, and in its query if that is not computed."""
    for tensor in rows if also_query else rows[1:]:
        tensor[step.rank == -1] = NAN


def keys_mode(step: Step, rows: Rows, tiles: Tiles | None = SMALL) -> torch.Tensor:
    offsets = stored_offsets(step.num_kept, step.batch)
    packed_key, packed_value = (pack_rows(tensor, step.rank, step.batch, offsets) for tensor in rows[1:])
    positions = pack_positions(step.rank, step.batch, offsets)
    num_packed = int(offsets[-1])
    packed_key[num_packed:], packed_value[num_packed:] = NAN, NAN
    positions[num_packed:] = 0
    out = torch.full(rows.query.shape, NAN, dtype=rows.query.dtype)
    attend_keys(rows.query, packed_key, packed_value, positions, step.batch, offsets, SCALE, out, tiles)
    return out


def zipvl_mode(step: Step, rows: Rows) -> torch.Tensor:
    """Pack, ordinary causal attention of every packed prompt, unpack."""
    offsets = stored_offsets(step.num_kept, step.batch)
    packed = Rows(*(pack_rows(tensor, step.rank, step.batch, offsets) for tensor in rows))
    attended = torch.full(rows.query.shape, NAN, dtype=rows.query.dtype)
    for first, end in zip(offsets.tolist(), offsets.tolist()[1:], strict=False):
        query, key, value = (tensor[first:end] for tensor in packed)
        attended[first:end] = attend_selected(query, key, value, torch.arange(end - first), end - first, SCALE, "zipvl")
    out = torch.full(rows.query.shape, NAN, dtype=rows.query.dtype)
    unpack_rows(attended, step.rank, step.batch, offsets, out)
    return out


def reference(step: Step, rows: Rows, selection: str) -> torch.Tensor:
    out = torch.full(rows.query.shape, NAN, dtype=rows.query.dtype)
    for prompt in step.prompts:
        query, key, value = (tensor[prompt.tokens] for tensor in rows)
        out[prompt.tokens] = attend_selected(query, key, value, prompt.kept, prompt.num_prompt_tokens, SCALE, selection)
    return out


def test_offsets_count_kept_and_generated_tokens():
    step = make_step([(5, 0), (7, 3), (2, 1)], kept=[[1, 4], [6], [0, 1]])
    assert stored_offsets(step.num_kept, step.batch).tolist() == [0, 2, 6, 9]
    assert stored_offsets(step.num_kept, step.batch).dtype == torch.int32


@pytest.mark.parametrize("num_heads", [1, 7, 28])
@pytest.mark.parametrize("head_size", [32, 80, 128])
def test_packing_moves_stored_rows_and_back(num_heads, head_size):
    step = make_step([(65, 0), (300, 4), (2, 0)])
    # A view in which neither heads nor tokens lie next to each other.
    rows = torch.randn(step.num_tokens, num_heads + 1, head_size + 2)[:, :num_heads, :head_size].bfloat16()
    rows = torch.nn.functional.pad(rows, (0, 2, 0, 1))[:, :num_heads, :head_size]
    rows[~step.is_sparse] = NAN
    offsets = stored_offsets(step.num_kept, step.batch)
    packed = pack_rows(rows, step.rank, step.batch, offsets)
    expected = torch.cat([rows[prompt.start + prompt.stored] for prompt in step.prompts])
    assert packed.is_contiguous()
    assert torch.equal(packed[: offsets[-1]], expected)

    packed[offsets[-1] :] = NAN
    sentinel = torch.full((step.num_tokens, num_heads + 1, head_size + 2), 7.0, dtype=torch.bfloat16)
    out = sentinel.clone()
    unpack_rows(packed, step.rank, step.batch, offsets, out[:, :num_heads, :head_size])
    back = sentinel.clone()
    back[step.is_sparse, :num_heads, :head_size] = 0.0
    for prompt in step.prompts:
        back[prompt.start + prompt.stored, :num_heads, :head_size] = rows[prompt.start + prompt.stored]
    assert torch.equal(out, back)


def test_packed_positions_ascend_within_every_prompt():
    step = make_step([(1100, 0), (30, 6)])
    offsets = stored_offsets(step.num_kept, step.batch)
    positions = pack_positions(step.rank, step.batch, offsets)
    assert positions[: offsets[-1]].tolist() == torch.cat([prompt.stored for prompt in step.prompts]).tolist()
    assert positions.dtype == torch.int32


@pytest.mark.parametrize(
    "sizes",
    [[(2, 0)], [(15, 0), (16, 0), (17, 0)], [(63, 2), (64, 0), (65, 1)], [(33, 40), (200, 0)]],
    ids=lambda sizes: "-".join(f"{prompt}+{generated}" for prompt, generated in sizes),
)
@pytest.mark.parametrize("mode", ["zipvl", "keys"])
def test_ragged_batches_equal_the_reference(mode, sizes):
    step = make_step(sizes)
    rows = make_rows(step)
    poison_dropped(step, rows, also_query=mode == "zipvl")
    out = zipvl_mode(step, rows) if mode == "zipvl" else keys_mode(step, rows)
    torch.testing.assert_close(out, reference(step, rows, mode), rtol=0, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize(
    "kept",
    [[0], [129], [64], [40, 41, 42, 100], list(range(130)), list(range(0, 130, 2)), list(range(100, 130))],
    ids=["first", "last", "tile-border", "few", "all", "every-other", "tail"],
)
def test_keys_mode_equals_the_reference_for_any_kept_set(kept):
    step = make_step([(130, 0)], kept=[kept])
    rows = make_rows(step, num_heads=2, num_kv_heads=1)
    poison_dropped(step, rows, also_query=False)
    out = keys_mode(step, rows)
    torch.testing.assert_close(out, reference(step, rows, "keys"), rtol=0, atol=2e-6, equal_nan=True)
    assert torch.equal(out[step.prompts[0].tokens][: kept[0]], torch.zeros(kept[0], 2, 32))


def test_keys_mode_finds_its_keys_in_a_prompt_of_several_search_rounds(monkeypatch):
    """Four pivots a round: about six rounds."""
    monkeypatch.setattr("attention_backend.ops.attend.kernel._SEARCH_WIDTH", 4)
    step = make_step([(300, 3), (3, 0)], share=0.7)
    rows = make_rows(step, num_heads=1, num_kv_heads=1)
    poison_dropped(step, rows, also_query=False)
    torch.testing.assert_close(keys_mode(step, rows), reference(step, rows, "keys"), rtol=0, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_size", "dtype"),
    [
        (1, 1, 80, torch.float16),
        (4, 1, 32, torch.float16),
        (7, 1, 128, torch.float16),
        (16, 2, 128, torch.float16),
        (4, 2, 80, torch.float32),
    ],
)
def test_keys_mode_errs_no_more_than_torch(num_heads, num_kv_heads, head_size, dtype):
    """Not in bfloat16, whose products Triton's interpreter computes from the bits as integers."""
    step = make_step([(150, 2), (20, 0)])
    rows = make_rows(step, num_heads, num_kv_heads, head_size, dtype)
    poison_dropped(step, rows, also_query=False)
    exact = reference(step, Rows(*(tensor.double() for tensor in rows)), "keys")[step.is_sparse]
    error = (keys_mode(step, rows, tiles=None)[step.is_sparse].double() - exact).abs().max()
    torch_error = (reference(step, rows, "keys")[step.is_sparse].double() - exact).abs().max()
    assert error <= 2 * torch_error + FLOOR[dtype]


def test_keys_mode_survives_large_logits():
    """The online maximum rises and falls by hundreds between key tiles."""
    step = make_step([(100, 0)])
    rows = make_rows(step)
    rows.query.mul_(60)
    expected = reference(step, Rows(*(tensor.double() for tensor in rows)), "keys")
    torch.testing.assert_close(keys_mode(step, rows).double(), expected, rtol=0, atol=1e-4, equal_nan=True)


def test_keys_mode_repeats_itself_bit_by_bit():
    step = make_step([(90, 1), (40, 0)])
    rows = make_rows(step, dtype=torch.float16)
    first, second = (keys_mode(step, rows)[step.is_sparse] for _ in range(2))
    assert torch.equal(first, second)


def test_a_prompt_does_not_feel_its_neighbours():
    alone, together = make_step([(50, 0)], kept=[[3, 20, 49]]), make_step([(50, 0), (31, 2)], kept=[[3, 20, 49], [30]])
    rows = make_rows(together)
    head = Rows(*(tensor[: alone.num_tokens] for tensor in rows))
    tokens = alone.prompts[0].tokens
    assert torch.equal(keys_mode(alone, head)[tokens], keys_mode(together, rows)[tokens])


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_tiles_fit_shared_memory(capability, dtype):
    """Stages of key and value tiles, and the query tile."""
    tiles = choose_tiles(dtype, capability)
    rows = tiles.rows + 2 * tiles.keys * tiles.num_stages
    limit_bytes = {(8, 0): 163, (9, 0): 227, (10, 0): 227}.get(capability, 99) * 1024
    assert rows * 128 * dtype.itemsize <= limit_bytes
