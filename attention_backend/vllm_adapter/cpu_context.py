"""What one worker knows while it runs: which requests are sparse, and what pruning removed from them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from vllm.v1.attention.backends.cpu_attn import CPUAttentionMetadata
from vllm.v1.core.sched.output import SchedulerOutput

from attention_backend.config import SparsityConfig
from attention_backend.ops.compact import Removal
from attention_backend.request import pack_mask, returns_kept, sparsity_p_of
from attention_backend.vllm_adapter.feedback import Feedback, Kept


@dataclass(frozen=True, slots=True)
class SparsePrefill:
    """A sparse request whose prompt is computed in this step.

    Attributes:
        request_id: vLLM's id.
        row: its row in the batch.
        tokens: its tokens in the batch; the prompt, then generated tokens if it was preempted.
        num_prompt_tokens: L.
        sparsity_p: share of the attention mass to keep, in (0, 1).
    """

    request_id: str
    row: int
    tokens: slice
    num_prompt_tokens: int
    sparsity_p: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What all layers share in one step.

    Attributes:
        starting_rows: requests that begin at position 0, [num_starting], int64.
        prefills: the sparse ones among them.
        row_of_token: row of the request of every token, [num_tokens], int64; None while no request is sparse, so that
            nothing is pruned.
    """

    starting_rows: torch.Tensor
    prefills: list[SparsePrefill]
    row_of_token: torch.Tensor | None


class CPUPruningContext:
    """State of one worker, shared by the metadata builders of its layers.

    Removals are stored by the first physical block of a request's row: every layer has its own blocks, a
    request never loses its first one, and no request id has to reach the device.
    """

    def __init__(self, config: SparsityConfig) -> None:
        self.config = config
        self.num_layers = 0
        # [num_blocks, 3], int32, columns of `Removal`. Block 0 is vLLM's null block and stays zero.
        self.removals = torch.empty(0, 3, dtype=torch.int32)
        # Shape of a layer's attention -> metadata of the first such layer of this step that lost nothing.
        self.natural_metadata: dict[tuple, CPUAttentionMetadata] = {}
        self._sparsity_p: dict[str, float] = {}
        self._returns_kept: set[str] = set()
        self._num_kept: dict[str, list[int]] = {}
        # [num_layers, num_prompt_tokens], bool
        self._masks: dict[str, np.ndarray] = {}
        self._plan: StepPlan | None = None
        self._input_batch = None

    def bind(self, input_batch, num_blocks: int, num_layers: int, device: torch.device) -> None:
        """Attach to the model runner's persistent batch once the KV cache exists."""
        self._input_batch = input_batch
        self.num_layers = num_layers
        self.removals = torch.zeros(num_blocks, 3, dtype=torch.int32, device=device)

    def begin_step(self, scheduler_output: SchedulerOutput) -> None:
        """Take in new requests and forget finished ones; a preempted request keeps its `sparsity_p`."""
        for request_id in scheduler_output.finished_req_ids:
            self._sparsity_p.pop(request_id, None)
            self._returns_kept.discard(request_id)
        for request in scheduler_output.scheduled_new_reqs:
            if (sparsity_p := sparsity_p_of(request.sampling_params)) < 1.0:
                self._sparsity_p[request.req_id] = sparsity_p
                if returns_kept(request.sampling_params):
                    self._returns_kept.add(request.req_id)
        self._plan = None
        self.natural_metadata.clear()

    def plan_step(self, query_start_loc: torch.Tensor, num_reqs: int) -> StepPlan:
        """The plan of this step, made at the first layer's request.

        Args:
            query_start_loc: first token of every request in the batch, [num_reqs + 1], on the host.
            num_reqs: requests in the batch.
        """
        if self._plan is None:
            starting = (self._input_batch.num_computed_tokens_cpu[:num_reqs] == 0).nonzero()[0]
            prefills = list(self._sparse_prefills(starting, query_start_loc))
            row_of_token = None
            if self._sparsity_p:
                row_of_token = torch.arange(num_reqs).repeat_interleave(query_start_loc[: num_reqs + 1].diff())
            self._plan = StepPlan(torch.from_numpy(starting), prefills, row_of_token)
        return self._plan

    def _sparse_prefills(self, starting, query_start_loc: torch.Tensor) -> Iterator[SparsePrefill]:
        for row in starting.tolist():
            request_id = self._input_batch.req_ids[row]
            sparsity_p = self._sparsity_p.get(request_id)
            if sparsity_p is None:
                continue
            tokens = slice(int(query_start_loc[row]), int(query_start_loc[row + 1]))
            num_prompt_tokens = int(self._input_batch.num_prompt_tokens[row])
            assert tokens.stop - tokens.start >= num_prompt_tokens, "a sparse prompt was split over steps"
            yield SparsePrefill(request_id, row, tokens, num_prompt_tokens, sparsity_p)

    def record(
        self, prefill: SparsePrefill, layer: int, first_block: int, kept: torch.Tensor, removal: Removal
    ) -> None:
        """Remember what one layer kept, for its later steps and for the scheduler.

        Args:
            prefill: the prompt.
            layer: index of the layer.
            first_block: of the request in this layer.
            kept: positions of the kept tokens, [num_kept], int64.
            removal: what the layer's row lost.
        """
        self.removals[first_block] = torch.tensor(removal, dtype=torch.int32)
        self._num_kept.setdefault(prefill.request_id, [0] * self.num_layers)[layer] = kept.numel()
        if prefill.request_id in self._returns_kept:
            shape = self.num_layers, prefill.num_prompt_tokens
            self._masks.setdefault(prefill.request_id, np.zeros(shape, bool))[layer, kept.numpy()] = True

    def take_feedback(self) -> Feedback:
        """What was recorded since the last call."""
        masks = {request_id: pack_mask(mask) for request_id, mask in self._masks.items()}
        feedback = {name: Kept(num_kept, masks.get(name)) for name, num_kept in self._num_kept.items()}
        self._num_kept, self._masks = {}, {}
        return feedback
