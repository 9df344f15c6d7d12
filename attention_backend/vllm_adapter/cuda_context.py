"""What one CUDA worker knows while it runs, in device buffers that keep their addresses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from vllm.utils.math_utils import round_up
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.core.sched.output import NewRequestData
from vllm.v1.worker.gpu.block_table import BlockTables
from vllm.v1.worker.gpu.buffer_utils import StagedWriteTensor
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.states import RequestState

from attention_backend.config import SparsityConfig
from attention_backend.ops.estimate import probe_positions
from attention_backend.ops.prefill_batch import PrefillBatch
from attention_backend.ops.virtualise.kernel import virtualise_step
from attention_backend.request import returns_kept, sparsity_p_of
from attention_backend.vllm_adapter.cuda_feedback import KeptMasks, PendingFeedback


@dataclass(frozen=True, slots=True)
class SparsePrefills:
    """The sparse prompts of one step; n is their number.

    Attributes:
        request_ids: vLLM's ids.
        batch: where their tokens are.
        probes: probe positions by KV cache group, [num_groups, n, at least max(num_probes)], int32.
        num_probes: [n], int32.
        num_kept: written by the layers' forward, [num_groups, n], int32.
        masks: likewise, where a request asks which tokens were kept.
        has_others: whether the step holds other requests too.
    """

    request_ids: list[str]
    batch: PrefillBatch
    probes: torch.Tensor
    num_probes: torch.Tensor
    num_kept: torch.Tensor
    masks: KeptMasks | None
    has_others: bool


@dataclass(slots=True)
class StepPlan:
    """What all layers share in one step.

    Attributes:
        query_start_loc: the step's own array; by its address metadata builders tell a real step from a dummy run
            or a graph capture, which come past no other hook.
        prefills: the sparse prompts, if any.
        shared: metadata of the first layer; the others differ in their tables and lengths only.
    """

    query_start_loc: np.ndarray
    prefills: SparsePrefills | None
    shared: object | None = None
    _address: int = field(init=False)

    def __post_init__(self) -> None:
        self._address = self.query_start_loc.ctypes.data

    def describes(self, query_start_loc_cpu: torch.Tensor) -> bool:
        return query_start_loc_cpu.data_ptr() == self._address


class CUDAPruningContext:
    """State of one worker, shared by its model runner and the metadata builders of its layers.

    Removals are stored by the first physical block of a request's row: every layer has its own blocks, a request
    never loses its first one, and no request id has to reach the device.
    """

    def __init__(self, config: SparsityConfig, states: RequestState, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.plan: StepPlan | None = None
        self._states = states
        # By request-state index; 1 is dense.
        self._sparsity_p = np.ones(states.max_num_reqs)
        self._returns_kept = np.zeros(states.max_num_reqs, bool)
        self._is_sparse = StagedWriteTensor(states.max_num_reqs, dtype=torch.int32, device=device)
        self._unread: SparsePrefills | None = None

    def bind(self, block_tables: BlockTables, layers_by_group: Sequence[int], num_blocks: int) -> None:
        """Attach to the model runner's block tables once the KV cache exists.

        Args:
            block_tables: of the model runner.
            layers_by_group: index of the decoder layer that each KV cache group holds.
            num_blocks: blocks in the pool.
        """
        self._block_tables = block_tables
        self.layers_by_group = tuple(layers_by_group)
        # Columns of `Removal`. Block 0 is vLLM's null block and stays zero.
        self.removals = torch.zeros(num_blocks, 3, dtype=torch.int32, device=self.device)
        # Read by captured graphs.
        self.seq_lens = torch.zeros(
            len(layers_by_group), self._states.max_num_reqs, dtype=torch.int32, device=self.device
        )

    def add_requests(self, requests: Sequence[NewRequestData]) -> None:
        """Note the `sparsity_p` of requests that enter the batch, for the first time or after a preemption."""
        for request in requests:
            index = self._states.req_id_to_index[request.req_id]
            # A prompt of one token has nothing to lose, and it may run in a decode graph.
            sparsity_p = sparsity_p_of(request.sampling_params) if request.prompt_len > 1 else 1.0
            self._returns_kept[index] = returns_kept(request.sampling_params)
            if sparsity_p != self._sparsity_p[index]:
                self._sparsity_p[index] = sparsity_p
                self._is_sparse.stage_write_elem(index, int(sparsity_p < 1.0))
        self._is_sparse.apply_write()

    def begin_step(self, batch: InputBatch, slot_mappings: torch.Tensor) -> None:
        """Close the gaps in pruned rows and find the sparse prompts of this step.

        Args:
            batch: the step; its block tables are already gathered.
            slot_mappings: natural slots, [num_groups, num_tokens], int64; changed in place.
        """
        tables = self._block_tables
        virtualise_step(
            idx_mapping=batch.idx_mapping,
            query_start_loc=batch.query_start_loc,
            positions=batch.positions,
            is_sparse_by_state=self._is_sparse.gpu,
            src_block_table_ptrs=tables.block_table_ptrs,
            dst_block_table_ptrs=tables.input_block_table_ptrs,
            block_table_strides=tables.block_table_strides,
            slot_mappings=slot_mappings,
            seq_lens=batch.seq_lens,
            removals=self.removals,
            virtual_seq_lens=self.seq_lens,
            block_size=tables.block_sizes[0],
            num_reqs=batch.num_reqs,
        )
        self._unread = self._sparse_prefills(batch)
        self.plan = StepPlan(batch.query_start_loc_np, self._unread)

    def _sparse_prefills(self, batch: InputBatch) -> SparsePrefills | None:
        states = batch.idx_mapping_np[: batch.num_reqs]
        is_sparse = (batch.num_computed_tokens_np[: batch.num_reqs] == 0) & (self._sparsity_p[states] < 1.0)
        rows = np.flatnonzero(is_sparse)
        if rows.size == 0:
            return None
        num_prompt_tokens = self._states.prompt_len.np[states[rows]]
        num_tokens = batch.num_scheduled_tokens[rows]
        assert (num_tokens >= num_prompt_tokens).all(), "a sparse prompt was split over steps"
        return self.plan_prefills(
            request_ids=[batch.req_ids[row] for row in rows.tolist()],
            token_start=batch.query_start_loc_np[rows],
            num_tokens=num_tokens,
            num_prompt_tokens=num_prompt_tokens,
            rows=rows,
            sparsity_p=self._sparsity_p[states[rows]],
            returns_kept=self._returns_kept[states[rows]],
            has_others=rows.size < batch.num_reqs,
        )

    def plan_prefills(
        self,
        request_ids: list[str],
        token_start: np.ndarray,
        num_tokens: np.ndarray,
        num_prompt_tokens: np.ndarray,
        rows: np.ndarray,
        sparsity_p: np.ndarray,
        returns_kept: np.ndarray,
        has_others: bool,
    ) -> SparsePrefills:
        """Bring what the host knows of sparse prompts to the device; arrays are [n], see `PrefillBatch`."""
        probes = [_probes(int(length), self.layers_by_group, self.config) for length in num_prompt_tokens]
        num_probes = np.array([by_group.shape[1] for by_group in probes])
        num_groups, num_prompts = len(self.layers_by_group), len(probes)
        # Triton compiles a kernel anew for addresses that are no multiple of 16 bytes, hence the rounding.
        padded = torch.zeros(num_groups, num_prompts, round_up(int(num_probes.max()), 16), dtype=torch.int32)
        for prompt, by_group in enumerate(probes):
            padded[:, prompt, : by_group.shape[1]] = by_group
        # One copy for all: [5, n], int32.
        numbers = np.zeros((5, round_up(num_prompts, 4)), np.int32)
        numbers[:, :num_prompts] = token_start, num_tokens, num_prompt_tokens, rows, num_probes
        on_device = async_tensor_h2d(numbers, device=self.device)[:, :num_prompts]
        return SparsePrefills(
            request_ids=request_ids,
            batch=PrefillBatch(
                token_start=on_device[0],
                num_tokens=on_device[1],
                num_prompt_tokens=on_device[2],
                row=on_device[3],
                sparsity_p=async_tensor_h2d(sparsity_p, device=self.device),
                max_num_tokens=int(num_tokens.max()),
                max_prompt_tokens=int(num_prompt_tokens.max()),
            ),
            probes=async_tensor_h2d(padded, device=self.device),
            num_probes=on_device[4],
            num_kept=torch.empty(num_groups, num_prompts, dtype=torch.int32, device=self.device),
            masks=KeptMasks.of_prompts(
                token_start, num_prompt_tokens, returns_kept, len(self.layers_by_group), self.device
            ),
            has_others=has_others,
        )

    def take_feedback(self) -> PendingFeedback | None:
        """What this step's sparse prompts kept, on its way to the host. Call it after the forward pass."""
        prefills, self._unread = self._unread, None
        if prefills is None:
            return None
        return PendingFeedback(prefills.request_ids, self.layers_by_group, prefills.num_kept, prefills.masks)


@lru_cache(maxsize=256)
def _probes(num_tokens: int, layers: tuple[int, ...], config: SparsityConfig) -> torch.Tensor:
    """Probe positions of one prompt length, [num_layers, num_probes], int32."""
    return torch.stack([probe_positions(num_tokens, layer, config) for layer in layers]).int()
