"""The scheduler: whole-prompt prefill for sparse requests, blocks freed on feedback, reports on the last output."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from vllm.logger import init_logger
from vllm.utils.math_utils import cdiv
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from attention_backend.config import SparsityConfig
from attention_backend.errors import InvalidSparsityP
from attention_backend.request import REPORT, SparsityReport, pack_mask, returns_kept, sparsity_p_of, token_ratio
from attention_backend.vllm_adapter.feedback import Kept, feedback_of
from attention_backend.vllm_adapter.grammar_time import TimedGrammars
from attention_backend.vllm_adapter.manager import TopPKVCacheManager, TopPManager
from attention_backend.vllm_adapter.startup_checks import check_managers

# A name below vLLM's, so that its handlers print it.
logger = init_logger("vllm.winnow.scheduler")


@dataclass(frozen=True, slots=True)
class _Pruned:
    """What the scheduler remembers of a pruned request until it finishes."""

    kept: Kept
    freed_blocks: int


class TopPScheduler(AsyncScheduler):
    """vLLM's scheduler with one KV cache group per layer that shrinks after a sparse prefill."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        managers = self.kv_cache_manager.coordinator.single_type_managers
        check_managers(managers)
        self._managers_by_layer: list[TopPManager] = sorted(managers, key=lambda manager: manager.kv_cache_spec.layer)
        self.kv_cache_manager = TopPKVCacheManager.take_over(self.kv_cache_manager)
        TimedGrammars.take_over(self.structured_output_manager)
        self._config = SparsityConfig.from_additional_config(self.vllm_config.additional_config)
        self._pruned: dict[str, _Pruned] = {}
        self._refused: set[str] = set()
        self._feedback_dropped = 0

    def add_request(self, request: Request) -> None:
        """Take in a request; one that cannot be pruned as it asks ends with finish reason `error`.

        Servers refuse such requests before they come here. What a user of plain vLLM sends must not end the engine.
        """
        try:
            if sparsity_p_of(request.sampling_params) < 1.0:
                if request.resumable:
                    raise InvalidSparsityP(
                        "sparsity_p is below 1 and the prompt comes in pieces, but selection needs "
                        "the whole prompt. Send sparsity_p = 1, or the prompt as a whole."
                    )
                # A cached prefix would leave the selection without the rows that it looks at.
                request.skip_reading_prefix_cache = True
        except InvalidSparsityP as error:
            logger.error("Request %s ends with an error: %s", request.request_id, error)
            request.sampling_params.extra_args = None
            self._refused.add(request.request_id)
        super().add_request(request)

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        if request.request_id in self._refused:
            self._end_with_error(request)
            return False
        return super()._handle_blocked_waiting_request(request)

    def _end_with_error(self, request: Request) -> None:
        """vLLM finishes these requests at the end of the step and answers their clients."""
        self.encoder_cache_mismatch_reqs.add(request.request_id)

    def _try_schedule_encoder_inputs(
        self,
        request: Request,
        num_computed_tokens: int,
        num_new_tokens: int,
        encoder_compute_budget: int,
        shift_computed_tokens: int = 0,
    ) -> tuple[list[int], int, int, list[int], list[int]]:
        """Let a sparse request wait rather than cut its prompt short.

        vLLM cuts the prompt before the first picture that the encoder cannot take in this step. A sparse
        request would then select over a part of its prompt.
        """
        planned = super()._try_schedule_encoder_inputs(
            request, num_computed_tokens, num_new_tokens, encoder_compute_budget, shift_computed_tokens
        )
        if planned[1] >= num_new_tokens or sparsity_p_of(request.sampling_params) >= 1.0:
            return planned
        self.encoder_cache_manager.free(request)
        if self._exceeds_encoder(request):
            logger.error(
                "Request %s ends with an error: its pictures exceed what the encoder may take in one step, which "
                "sparsity_p < 1 needs. Raise --max-num-batched-tokens, or send sparsity_p = 1.",
                request.request_id,
            )
            self._end_with_error(request)
        return [], 0, encoder_compute_budget, [], []

    def _exceeds_encoder(self, request: Request) -> bool:
        """Whether the pictures of one prompt can never be encoded within one step."""
        num_embeds = {feature.identifier: feature.mm_position.get_num_embeds() for feature in request.mm_features}
        return sum(num_embeds.values()) > min(self.max_num_encoder_input_tokens, self.encoder_cache_manager.cache_size)

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        for request_id, kept in feedback_of(model_runner_output).items():
            self._free_pruned_blocks(request_id, kept)
        engine_core_outputs = super().update_from_output(scheduler_output, model_runner_output)
        for outputs in engine_core_outputs.values():
            self._complete_reports(outputs.outputs)
        return engine_core_outputs

    def _free_pruned_blocks(self, request_id: str, kept: Kept) -> None:
        request = self.requests.get(request_id)
        # Outputs of a step that ran before a preemption speak of blocks that are no longer the request's.
        if request is None or request.is_finished() or request.num_stale_output_tokens > 0:
            self._feedback_dropped += 1
            return
        block_pool = self.kv_cache_manager.block_pool
        num_free_before = block_pool.get_num_free_blocks()
        for manager, num_kept_tokens in zip(self._managers_by_layer, kept.tokens_per_layer, strict=True):
            manager.free_pruned_blocks(request_id, request.num_prompt_tokens, num_kept_tokens)
        freed_blocks = block_pool.get_num_free_blocks() - num_free_before
        self._pruned[request_id] = _Pruned(kept, freed_blocks)

    def _report(self, request: Request) -> dict[str, dict[str, Any]]:
        """`kv_transfer_params` of an output: what pruning did to this request."""
        num_prompt_tokens, num_layers = request.num_prompt_tokens, len(self._managers_by_layer)
        pruned = self._pruned.get(request.request_id)
        if pruned is None:
            kept, freed_blocks, ratio = self._all_kept(request), 0, 1.0
        else:
            kept, freed_blocks = pruned.kept, pruned.freed_blocks
            ratio = token_ratio(kept.tokens_per_layer, num_prompt_tokens, self._config.selection)
        dense_blocks = num_layers * cdiv(num_prompt_tokens, self._managers_by_layer[0].block_size)
        report = SparsityReport(
            sparsity_p=sparsity_p_of(request.sampling_params),
            selection=self._config.selection,
            token_ratio=ratio,
            kv_ratio=1.0 - freed_blocks / dense_blocks,
            kept_tokens_per_layer=kept.tokens_per_layer,
            num_prompt_tokens=num_prompt_tokens,
            freed_blocks=freed_blocks,
            kept_mask=kept.mask,
            ranking=self._config.ranking,
        )
        return {REPORT: report.to_dict()}

    def _all_kept(self, request: Request) -> Kept:
        """Of a request that was not pruned."""
        shape = len(self._managers_by_layer), request.num_prompt_tokens
        mask = pack_mask(np.ones(shape, bool)) if returns_kept(request.sampling_params) else None
        return Kept([shape[1]] * shape[0], mask)

    def _complete_reports(self, outputs: list[EngineCoreOutput]) -> None:
        """Report to requests that the front end may end, and hand over what was counted across requests.

        vLLM looks for stop strings in the front end, so any output of such a request may be its last.
        """
        for output in outputs:
            request = self.requests.get(output.request_id)
            if request is not None and request.sampling_params is not None and request.sampling_params.stop:
                output.kv_transfer_params = self._report(request)
            if output.kv_transfer_params is not None:
                output.kv_transfer_params[REPORT]["feedback_dropped"] = self._feedback_dropped
                self._feedback_dropped = 0

    def _free_request(self, request: Request, delay_free_blocks: bool = False):
        _, ec_transfer_params = super()._free_request(request, delay_free_blocks)
        report = self._report(request)
        self._pruned.pop(request.request_id, None)
        self._refused.discard(request.request_id)
        return report, ec_transfer_params
