"""The CUDA adapter without a GPU: its own code and kernels (under Triton's interpreter) on CPU tensors.

What vLLM's kernels do around it is written here in plain torch: gathering block tables and slots, writing the paged
cache, paged attention, and FlashAttention over packed rows.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from vllm.v1.attention.backends import flash_attn
from vllm.v1.attention.backends.flash_attn import FlashAttentionImpl, FlashAttentionMetadataBuilder

from attention_backend.config import SparsityConfig
from attention_backend.request import RETURN_KEPT, SPARSITY_P
from attention_backend.vllm_adapter import cuda_backend, cuda_context
from attention_backend.vllm_adapter.cuda_backend import TopPFlashAttentionImpl, TopPFlashAttentionMetadataBuilder
from attention_backend.vllm_adapter.cuda_context import CUDAPruningContext

BLOCK_SIZE, NUM_BLOCKS, MAX_BLOCKS, MAX_REQS = 4, 400, 32, 8
NUM_HEADS, NUM_KV_HEADS, HEAD_SIZE = 4, 2, 16
SCALE = HEAD_SIZE**-0.5
LAYERS_BY_GROUP = (1, 0)


@dataclass
class Sequence:
    """One request as the test drives it; query, key and value are by layer, [num_tokens, heads, head_size]."""

    request_id: str
    sparsity_p: float
    num_prompt_tokens: int
    rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    num_computed: int = 0
    blocks: list[list[int]] = field(default_factory=list)


class _StagedWrites:
    """vLLM's `StagedWriteTensor`, whose write is a kernel on the GPU."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.gpu = torch.zeros(size, dtype=dtype, device=device)
        self._staged: list[tuple[int, float]] = []

    def stage_write_elem(self, index: int, value: float) -> None:
        self._staged.append((index, value))

    def apply_write(self) -> None:
        for index, value in self._staged:
            self.gpu[index] = value
        self._staged.clear()


def _attend_packed(q, k, v, out, cu_seqlens_q, softmax_scale, causal, **_) -> None:
    assert causal
    out.fill_(float("nan"))
    for first, end in zip(cu_seqlens_q.tolist(), cu_seqlens_q[1:].tolist(), strict=False):
        out[first:end] = _sdpa(q[first:end], k[first:end], v[first:end], softmax_scale, is_causal=True)


def _sdpa(query, key, value, scale, **kwargs) -> torch.Tensor:
    query, key, value = (rows.transpose(0, 1)[None] for rows in (query, key, value))
    output = scaled_dot_product_attention(query, key, value, scale=scale, enable_gqa=True, **kwargs)
    return output[0].transpose(0, 1)


def _write_cache(self, layer, key, value, kv_cache, slots) -> None:
    """kv_cache: [num_blocks, block_size, 2, num_kv_heads, head_size]."""
    flat = kv_cache.view(-1, 2, *kv_cache.shape[3:])
    stored = slots >= 0
    flat[slots[stored], 0] = key[: slots.shape[0]][stored]
    flat[slots[stored], 1] = value[: slots.shape[0]][stored]


def _attend_paged(self, layer, query, key, value, kv_cache, metadata, output, *_) -> torch.Tensor:
    starts = metadata.query_start_loc.tolist()
    for row, seq_len in enumerate(metadata.seq_lens.tolist()):
        first, end = starts[row], starts[row + 1]
        if seq_len == 0:
            output[first:end] = float("nan")
            continue
        position = torch.arange(seq_len)
        blocks = metadata.block_table[row, position // BLOCK_SIZE].long()
        stored = kv_cache[blocks, position % BLOCK_SIZE]
        visible = position <= torch.arange(seq_len - (end - first), seq_len)[:, None]
        output[first:end] = _sdpa(query[first:end], stored[:, 0], stored[:, 1], SCALE, attn_mask=visible)
    return output


def _build(self, common_prefix_len, common, fast_build=False) -> SimpleNamespace:
    return SimpleNamespace(
        query_start_loc=common.query_start_loc,
        seq_lens=common.seq_lens,
        block_table=common.block_table_tensor,
        slot_mapping=common.slot_mapping,
    )


class CUDAWorker:
    """Runner, block tables and layers around a `CUDAPruningContext`."""

    def __init__(self, monkeypatch, config: SparsityConfig) -> None:
        monkeypatch.setattr(cuda_context, "StagedWriteTensor", _StagedWrites)
        event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
        monkeypatch.setattr(torch.cuda, "Event", lambda: event)
        monkeypatch.setattr(flash_attn, "flash_attn_varlen_func", _attend_packed, raising=False)
        monkeypatch.setattr(FlashAttentionImpl, "forward", _attend_paged)
        monkeypatch.setattr(FlashAttentionImpl, "do_kv_cache_update", _write_cache)
        monkeypatch.setattr(FlashAttentionMetadataBuilder, "build", _build)
        monkeypatch.setattr(cuda_backend, "mean_over_ranks", lambda importance: importance)
        self.states = SimpleNamespace(
            max_num_reqs=MAX_REQS, req_id_to_index={}, prompt_len=SimpleNamespace(np=np.zeros(MAX_REQS, np.int32))
        )
        num_groups = len(LAYERS_BY_GROUP)
        self.natural = [torch.zeros(MAX_REQS, MAX_BLOCKS, dtype=torch.int32) for _ in LAYERS_BY_GROUP]
        self.by_row = [torch.zeros(MAX_REQS, MAX_BLOCKS, dtype=torch.int32) for _ in LAYERS_BY_GROUP]
        self.tables = SimpleNamespace(
            block_sizes=[BLOCK_SIZE] * num_groups,
            block_table_ptrs=_pointers(self.natural),
            input_block_table_ptrs=_pointers(self.by_row),
            block_table_strides=torch.full((num_groups,), MAX_BLOCKS),
        )
        self.context = CUDAPruningContext(config, self.states, torch.device("cpu"))
        self.context.bind(self.tables, LAYERS_BY_GROUP, NUM_BLOCKS)
        shape = (NUM_BLOCKS, BLOCK_SIZE, 2, NUM_KV_HEADS, HEAD_SIZE)
        self.kv_caches = [torch.full(shape, float("nan")) for _ in LAYERS_BY_GROUP]
        self.builders = [self._builder(group) for group in range(num_groups)]
        self.impl = object.__new__(TopPFlashAttentionImpl)
        self.impl.scale, self.impl.vllm_flash_attn_version = SCALE, 3
        self._next_block = 1

    def _builder(self, group: int) -> TopPFlashAttentionMetadataBuilder:
        builder = object.__new__(TopPFlashAttentionMetadataBuilder)
        builder.context, builder.group, builder.block_size = self.context, group, BLOCK_SIZE
        return builder

    def add(self, sequence: Sequence, state: int, returns_kept: bool = False) -> None:
        """A request enters the batch, with blocks for all of its tokens."""
        self.states.req_id_to_index[sequence.request_id] = state
        self.states.prompt_len.np[state] = sequence.num_prompt_tokens
        num_blocks = -(-sequence.rows[0][0].shape[0] // BLOCK_SIZE)
        sequence.num_computed, sequence.blocks = 0, []
        for table in self.natural:
            blocks = list(range(self._next_block, self._next_block + num_blocks))
            self._next_block += num_blocks
            sequence.blocks.append(blocks)
            table[state, :num_blocks] = torch.tensor(blocks, dtype=torch.int32)
        params = SimpleNamespace(extra_args={SPARSITY_P: sequence.sparsity_p, RETURN_KEPT: returns_kept})
        request = SimpleNamespace(
            req_id=sequence.request_id, prompt_len=sequence.num_prompt_tokens, sampling_params=params
        )
        self.context.add_requests([request])

    def step(self, batch: list[tuple[Sequence, int]], num_padded_rows: int = 0):
        """Run some tokens of some requests.

        Returns:
            Output rows by request id and layer, and the feedback.
        """
        counts = np.array([count for _, count in batch], np.int32)
        states = np.array([self.states.req_id_to_index[sequence.request_id] for sequence, _ in batch])
        computed = np.array([sequence.num_computed for sequence, _ in batch], np.int32)
        num_rows = len(batch) + num_padded_rows
        query_start_loc = np.full(num_rows + 1, counts.sum(), np.int32)
        query_start_loc[0], query_start_loc[1 : len(batch) + 1] = 0, counts.cumsum()
        scheduled = [
            (sequence, slice(sequence.num_computed, sequence.num_computed + count)) for sequence, count in batch
        ]
        positions = torch.cat([torch.arange(span.start, span.stop) for _, span in scheduled])
        slot_mappings = torch.full((len(LAYERS_BY_GROUP), positions.numel() + 5), -1)
        for group, table in enumerate(self.natural):
            self.by_row[group][: len(batch)] = table[torch.from_numpy(states)]
            self.by_row[group][len(batch) :] = 0
            token_states = torch.from_numpy(states).repeat_interleave(torch.from_numpy(counts))
            block = table[token_states, positions // BLOCK_SIZE].long()
            slot_mappings[group, : positions.numel()] = block * BLOCK_SIZE + positions % BLOCK_SIZE
        seq_lens = torch.zeros(num_rows, dtype=torch.int32)
        seq_lens[: len(batch)] = torch.from_numpy(computed + counts)
        self.context.begin_step(
            SimpleNamespace(
                req_ids=[sequence.request_id for sequence, _ in batch],
                num_reqs=len(batch),
                idx_mapping=torch.from_numpy(states),
                idx_mapping_np=states,
                query_start_loc=torch.from_numpy(query_start_loc.copy()),
                query_start_loc_np=query_start_loc,
                positions=positions,
                seq_lens=seq_lens,
                num_computed_tokens_np=computed,
                num_scheduled_tokens=counts,
            ),
            slot_mappings,
        )
        outputs = {sequence.request_id: {} for sequence, _ in batch}
        for group, layer in enumerate(LAYERS_BY_GROUP):
            rows = [torch.cat([sequence.rows[layer][part][span] for sequence, span in scheduled]) for part in range(3)]
            output = self._forward(group, rows, query_start_loc, num_rows, slot_mappings[group])
            for row, (sequence, _) in enumerate(batch):
                outputs[sequence.request_id][layer] = output[query_start_loc[row] : query_start_loc[row + 1]]
        for sequence, count in batch:
            sequence.num_computed += count
        pending = self.context.take_feedback()
        return outputs, pending.read() if pending is not None else {}

    def _forward(self, group: int, rows, query_start_loc, num_rows: int, slot_mapping: torch.Tensor) -> torch.Tensor:
        common = SimpleNamespace(
            query_start_loc=torch.from_numpy(query_start_loc),
            query_start_loc_cpu=torch.from_numpy(query_start_loc),
            num_reqs=num_rows,
            seq_lens=None,
            block_table_tensor=self.by_row[group][:num_rows],
            slot_mapping=slot_mapping,
        )
        metadata = self.builders[group].build(0, common)
        query, key, value = rows
        kv_cache, num_tokens = self.kv_caches[group], query.shape[0]
        _write_cache(None, None, key, value, kv_cache, slot_mapping[:num_tokens])
        output = torch.full_like(query, float("nan"))
        self.impl.forward(None, query, key, value, kv_cache, metadata, output)
        return output


def _pointers(tables: list[torch.Tensor]) -> torch.Tensor:
    return torch.tensor([table.data_ptr() for table in tables], dtype=torch.uint64)
