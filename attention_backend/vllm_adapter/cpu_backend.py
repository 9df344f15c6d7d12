"""The attention backend on CPU: vLLM's own kernels, with sparse prefills in torch.

Without a bound `CPUPruningContext` every class here behaves exactly as the one it derives from.
"""

from dataclasses import dataclass, replace

import torch
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.attention.backends.cpu_attn import (
    CPUAttentionBackend,
    CPUAttentionBackendImpl,
    CPUAttentionMetadata,
    CPUAttentionMetadataBuilder,
)

from attention_backend.ops.attend import attend_selected
from attention_backend.ops.compact import compact_slots, plan_removal
from attention_backend.ops.estimate import estimate_importance, probe_positions
from attention_backend.ops.ranking import baseline_score
from attention_backend.ops.select import forced_tokens, select_tokens
from attention_backend.ops.virtualise import virtualise_block_table, virtualise_slot_mapping
from attention_backend.vllm_adapter.cpu_context import CPUPruningContext, SparsePrefill, StepPlan
from attention_backend.vllm_adapter.tensor_parallel import mean_over_ranks


@dataclass(frozen=True, slots=True)
class TopPStepMetadata:
    """One layer's metadata in a step that holds sparse prefills.

    Attributes:
        others: metadata of the remaining requests for the stock kernel; None when there are none.
        other_tokens: their tokens in the batch, [num_other_tokens], int64.
        prefills: the sparse prefills.
        block_table: natural rows of all requests, [num_reqs, max_num_blocks], int32.
        layer: index of the layer.
        block_size: tokens a block holds.
        context: the worker's pruning state.
    """

    others: CPUAttentionMetadata | None
    other_tokens: torch.Tensor
    prefills: list[SparsePrefill]
    block_table: torch.Tensor
    layer: int
    block_size: int
    context: CPUPruningContext


class TopPCPUAttentionBackend(CPUAttentionBackend):
    """Registered in the place of `CPU_ATTN`, whose name vLLM expects."""

    @staticmethod
    def get_impl_cls() -> type["TopPCPUAttentionImpl"]:
        return TopPCPUAttentionImpl

    @staticmethod
    def get_builder_cls() -> type["TopPCPUMetadataBuilder"]:
        return TopPCPUMetadataBuilder


class TopPCPUMetadataBuilder(CPUAttentionMetadataBuilder):
    """Closes the gaps in pruned rows and sets sparse prefills apart."""

    context: CPUPruningContext | None = None

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> CPUAttentionMetadata | TopPStepMetadata:
        common = common_attn_metadata
        if self.context is None:
            return super().build(common_prefix_len, common, fast_build)
        plan = self.context.plan_step(common.query_start_loc_cpu, common.num_reqs)
        natural_block_table = common.block_table_tensor
        common = self._virtualise(common, plan)
        if not plan.prefills:
            if common is common_attn_metadata:
                return self._build_natural(common_prefix_len, common, fast_build)
            return super().build(common_prefix_len, common, fast_build)
        for prefill in plan.prefills:
            # The stock cache update skips these; compaction writes what is kept.
            common.slot_mapping[prefill.tokens] = -1
        others, other_tokens = _without_prefills(common, plan)
        return TopPStepMetadata(
            others=super().build(common_prefix_len, others, fast_build) if others is not None else None,
            other_tokens=other_tokens,
            prefills=plan.prefills,
            block_table=natural_block_table,
            layer=self.kv_cache_spec.layer,
            block_size=self.block_size,
            context=self.context,
        )

    def _build_natural(
        self, common_prefix_len: int, common: CommonAttentionMetadata, fast_build: bool
    ) -> CPUAttentionMetadata:
        """Metadata of a layer that lost nothing: but for its blocks it is that of all such layers of the step."""
        shape = self.num_heads, self.num_kv_heads, self.head_dim, self.window_size, self.isa
        shared = self.context.natural_metadata.get(shape)
        # vLLM makes the lengths of a step once for all layers.
        if shared is not None and shared.seq_lens is common.seq_lens:
            return replace(shared, block_table=common.block_table_tensor, slot_mapping=common.slot_mapping)
        metadata = super().build(common_prefix_len, common, fast_build)
        self.context.natural_metadata[shape] = metadata
        return metadata

    def _virtualise(self, common: CommonAttentionMetadata, plan: StepPlan) -> CommonAttentionMetadata:
        """Unchanged where no row of the batch was pruned."""
        if plan.row_of_token is None and not plan.starting_rows.numel():
            return common
        first_blocks = common.block_table_tensor[:, 0].long()
        # The first block of a request that starts may have been that of a pruned one.
        self.context.removals[first_blocks[plan.starting_rows]] = 0
        if plan.row_of_token is None:
            return common
        # [num_reqs, 3]
        removals = self.context.removals[first_blocks]
        if not removals.any():
            return common
        block_table = virtualise_block_table(common.block_table_tensor, removals)
        virtualise_slot_mapping(
            common.slot_mapping, common.positions, plan.row_of_token, block_table, removals, self.block_size
        )
        return replace(common, block_table_tensor=block_table, seq_lens=common.seq_lens - removals[:, 2])


def _without_prefills(
    common: CommonAttentionMetadata, plan: StepPlan
) -> tuple[CommonAttentionMetadata | None, torch.Tensor]:
    """The rest of the batch as a batch of its own, and where its tokens are."""
    is_other_row = torch.ones(common.num_reqs, dtype=torch.bool)
    is_other_token = torch.ones(common.num_actual_tokens, dtype=torch.bool)
    for prefill in plan.prefills:
        is_other_row[prefill.row] = False
        is_other_token[prefill.tokens] = False
    rows, tokens = is_other_row.nonzero().flatten(), is_other_token.nonzero().flatten()
    if rows.numel() == 0:
        return None, tokens
    num_tokens = common.query_start_loc_cpu.diff()[rows]
    query_start_loc = torch.zeros(rows.numel() + 1, dtype=common.query_start_loc.dtype)
    query_start_loc[1:] = num_tokens.cumsum(0)
    others = replace(
        common,
        query_start_loc=query_start_loc,
        query_start_loc_cpu=query_start_loc,
        seq_lens=common.seq_lens[rows],
        num_reqs=rows.numel(),
        num_actual_tokens=tokens.numel(),
        max_query_len=int(num_tokens.max()),
        block_table_tensor=common.block_table_tensor[rows],
        slot_mapping=common.slot_mapping[tokens],
    )
    return others, tokens


class TopPCPUAttentionImpl(CPUAttentionBackendImpl):
    """Reads, for a sparse prompt, as the method does: estimate, select, attend, compact."""

    def forward(
        self,
        layer: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: CPUAttentionMetadata | TopPStepMetadata | None,
        output: torch.Tensor,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention of one step; see `CPUAttentionBackendImpl.forward` for shapes."""
        if not isinstance(attn_metadata, TopPStepMetadata):
            return super().forward(
                layer, query, key, value, kv_cache, attn_metadata, output, output_scale, output_block_scale
            )
        if attn_metadata.others is not None:
            tokens = attn_metadata.other_tokens
            other_output = torch.empty_like(output[tokens])
            super().forward(
                layer, query[tokens], key[tokens], value[tokens], kv_cache, attn_metadata.others, other_output
            )
            output[tokens] = other_output
        for prefill in attn_metadata.prefills:
            tokens = prefill.tokens
            output[tokens] = self._prefill_sparse(
                layer, query[tokens], key[tokens], value[tokens], kv_cache, prefill, attn_metadata
            )
        return output

    def _prefill_sparse(
        self,
        layer: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        prefill: SparsePrefill,
        step: TopPStepMetadata,
    ) -> torch.Tensor:
        """One sparse prompt in one layer.

        Args:
            query: [num_tokens, num_heads, head_size].
            key, value: [num_tokens, num_kv_heads, head_size].

        Returns:
            [num_tokens, num_heads, head_size].
        """
        config = step.context.config
        num_tokens, num_prompt_tokens = query.shape[0], prefill.num_prompt_tokens
        probes = probe_positions(num_prompt_tokens, step.layer, config)
        importance = estimate_importance(query[probes], key[:num_prompt_tokens], probes, self.scale)
        mass, score = mean_over_ranks(torch.stack(importance))
        if config.ranking != "attention":
            score = baseline_score(num_prompt_tokens, step.layer, config.ranking)
        forced = forced_tokens(num_prompt_tokens, config)
        kept = select_tokens(mass, score, prefill.sparsity_p, forced, config.fixed_token_ratio)
        output = attend_selected(query, key, value, kept, num_prompt_tokens, self.scale, config.selection)

        block_row = step.block_table[prefill.row]
        removal = plan_removal(num_prompt_tokens, kept.numel(), step.block_size)
        # Generated tokens of a preempted request follow the kept ones.
        stored = torch.cat([kept, torch.arange(num_prompt_tokens, num_tokens)])
        slots = compact_slots(block_row, removal, stored.numel(), step.block_size)
        self.do_kv_cache_update(layer, key[stored], value[stored], kv_cache, slots)
        step.context.record(prefill, step.layer, int(block_row[0]), kept, removal)
        return output
