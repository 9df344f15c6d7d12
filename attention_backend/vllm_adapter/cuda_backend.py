"""The attention backend on CUDA: vLLM's FlashAttention, with sparse prefills in Triton.

Without a bound `CUDAPruningContext` the metadata are vLLM's own.
"""

import copy
from dataclasses import dataclass, replace

import torch
from vllm.config import VllmConfig
from vllm.v1.attention.backend import AttentionCGSupport, CommonAttentionMetadata
from vllm.v1.attention.backends import flash_attn
from vllm.v1.attention.backends.flash_attn import (
    FlashAttentionBackend,
    FlashAttentionImpl,
    FlashAttentionMetadata,
    FlashAttentionMetadataBuilder,
)
from vllm.v1.kv_cache_interface import KVCacheSpec

from attention_backend.ops.attend.packed import attend_packed
from attention_backend.ops.compact.kernel import compact_slots_varlen
from attention_backend.ops.estimate.kernel import estimate_importance_varlen
from attention_backend.ops.ranking.kernel import write_baseline_scores
from attention_backend.ops.select.kernel import select_tokens_varlen
from attention_backend.vllm_adapter.cuda_context import CUDAPruningContext, SparsePrefills
from attention_backend.vllm_adapter.registration import CUDA_BACKEND_NAME
from attention_backend.vllm_adapter.tensor_parallel import mean_over_ranks


@dataclass(frozen=True, slots=True)
class TopPStepMetadata:
    """One layer's metadata in a step that holds sparse prompts.

    Attributes:
        stock: metadata of the whole step for the stock kernel. The rows of sparse prompts have length 0 there.
        prefills: the sparse prompts.
        group: the layer's KV cache group.
        block_size: tokens a block holds.
        context: the worker's pruning state.
    """

    stock: FlashAttentionMetadata
    prefills: SparsePrefills
    group: int
    block_size: int
    context: CUDAPruningContext


class TopPFlashAttentionBackend(FlashAttentionBackend):
    """Registered under a name of its own; what is not overridden here is FlashAttention's."""

    @staticmethod
    def get_name() -> str:
        return CUDA_BACKEND_NAME

    @staticmethod
    def get_impl_cls() -> type["TopPFlashAttentionImpl"]:
        return TopPFlashAttentionImpl

    @staticmethod
    def get_builder_cls() -> type["TopPFlashAttentionMetadataBuilder"]:
        return TopPFlashAttentionMetadataBuilder


class TopPFlashAttentionMetadataBuilder(FlashAttentionMetadataBuilder):
    """Gives each layer its own lengths and block table; builds the rest once per step."""

    context: CUDAPruningContext | None = None
    # Index of the layer's KV cache group; set together with the context.
    group = 0

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # FlashAttention 3 can plan its tiles ahead of time from the lengths. Here they differ by layer, so each
        # layer's kernel plans for itself, inside the captured graph.
        self.aot_schedule = False

    @classmethod
    def get_cudagraph_support(cls, vllm_config: VllmConfig, kv_cache_spec: KVCacheSpec) -> AttentionCGSupport:
        """Decode steps run as one graph. A step with a prompt may have to prune, which a graph cannot."""
        return AttentionCGSupport.UNIFORM_SINGLE_TOKEN_DECODE

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> FlashAttentionMetadata | TopPStepMetadata:
        common, context = common_attn_metadata, self.context
        if context is None:
            return super().build(common_prefix_len, common, fast_build)
        seq_lens = context.seq_lens[self.group, : common.num_reqs]
        plan = context.plan
        if plan is None or not plan.describes(common.query_start_loc_cpu):
            # A dummy run or a capture: nothing is pruned, but a captured graph must read the buffer of real steps.
            seq_lens.copy_(common.seq_lens)
            return super().build(common_prefix_len, replace(common, seq_lens=seq_lens), fast_build)
        if plan.shared is None:
            plan.shared = super().build(common_prefix_len, common, fast_build)
        metadata = copy.copy(plan.shared)
        metadata.seq_lens = seq_lens
        metadata.block_table = common.block_table_tensor
        metadata.slot_mapping = common.slot_mapping
        if plan.prefills is None:
            return metadata
        return TopPStepMetadata(metadata, plan.prefills, self.group, self.block_size, context)


class TopPFlashAttentionImpl(FlashAttentionImpl):
    """Reads, for sparse prompts, as the method does: estimate, select, attend, compact."""

    def forward(
        self,
        layer: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: FlashAttentionMetadata | TopPStepMetadata | None,
        output: torch.Tensor,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention of one step; see `FlashAttentionImpl.forward` for shapes."""
        if attn_metadata is None:
            # The run that measures memory: hold what a step full of sparse prompts would hold.
            _ = [torch.empty_like(rows) for rows in (output, key, value, output)]
        if not isinstance(attn_metadata, TopPStepMetadata):
            return super().forward(
                layer, query, key, value, kv_cache, attn_metadata, output, output_scale, output_block_scale
            )
        if attn_metadata.prefills.has_others:
            super().forward(layer, query, key, value, kv_cache, attn_metadata.stock, output)
        if query.dtype != key.dtype:
            # With an fp8 cache vLLM quantises queries for the stock kernel.
            query = (query.to(torch.float32) * layer._q_scale).to(key.dtype)
        self._prefill_sparse(layer, query, key, value, kv_cache, attn_metadata, output)
        return output

    def _prefill_sparse(
        self,
        layer: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        step: TopPStepMetadata,
        output: torch.Tensor,
    ) -> None:
        """The sparse prompts of a step in one layer. No count leaves the device.

        Args:
            query: [num_tokens, num_heads, head_size].
            key, value: [num_tokens, num_kv_heads, head_size].
            output: [num_tokens, num_heads, head_size]; written for tokens of sparse prompts only.
        """
        prefills, config = step.prefills, step.context.config
        batch = prefills.batch
        importance = estimate_importance_varlen(
            query, key, batch, prefills.probes[step.group], prefills.num_probes, self.scale
        )
        importance = mean_over_ranks(importance)
        if config.ranking != "attention":
            write_baseline_scores(importance, batch, step.context.layers_by_group[step.group], config.ranking)
        rank, num_kept = select_tokens_varlen(
            importance,
            batch,
            config.num_sink_tokens,
            config.num_recent_tokens,
            config.fixed_token_ratio,
        )
        prefills.num_kept[step.group] = num_kept
        if prefills.masks is not None:
            prefills.masks.record(step.group, rank)
        attend_packed(
            query,
            key,
            value,
            rank,
            num_kept,
            batch,
            self.scale,
            config.selection,
            self._attend_varlen,
            output,
        )
        slots = compact_slots_varlen(
            rank, num_kept, batch, step.stock.block_table, step.block_size, step.context.removals
        )
        self.do_kv_cache_update(layer, key, value, kv_cache, slots)

    def _attend_varlen(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, offsets: torch.Tensor, max_num_tokens: int
    ) -> torch.Tensor:
        attended = torch.empty_like(query)
        flash_attn.flash_attn_varlen_func(
            q=query,
            k=key,
            v=value,
            out=attended,
            cu_seqlens_q=offsets,
            cu_seqlens_k=offsets,
            max_seqlen_q=max_num_tokens,
            max_seqlen_k=max_num_tokens,
            softmax_scale=self.scale,
            causal=True,
            fa_version=self.vllm_flash_attn_version,
        )
        return attended
