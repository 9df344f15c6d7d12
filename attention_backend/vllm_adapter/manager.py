"""KV block bookkeeping: per layer (`TopPManager`) and for the whole request (`TopPKVCacheManager`)."""

from vllm.utils.math_utils import cdiv
from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager
from vllm.v1.request import Request

from attention_backend.ops.compact import plan_removal
from attention_backend.request import sparsity_p_of


def _is_sparse(request: Request) -> bool:
    """Called per layer and block, so the flag that the scheduler sets on sparse requests answers first."""
    return request.skip_reading_prefix_cache and sparsity_p_of(request.sampling_params) < 1.0


class TopPManager(FullAttentionManager):
    """One layer's blocks."""

    def cache_blocks(self, request: Request, *args, **kwargs) -> None:
        """Never offer a sparse request's blocks to the prefix cache: they do not hold a plain prefix."""
        if not _is_sparse(request):
            super().cache_blocks(request, *args, **kwargs)

    def free_pruned_blocks(self, request_id: str, num_prompt_tokens: int, num_kept_tokens: int) -> None:
        """Give the blocks that compaction emptied back to the pool.

        The row keeps its length (null blocks fill the gap), so the scheduler goes on counting positions
        as if nothing was pruned.
        """
        kept_blocks, removed_blocks, _ = plan_removal(num_prompt_tokens, num_kept_tokens, self.block_size)
        self._remove_blocks_in_range(request_id, kept_blocks, kept_blocks + removed_blocks)


class _NoNewBlocks(KVCacheBlocks):
    """The common result of a decode step; answers without a look at every group."""

    def get_block_ids(self, allow_none: bool = False, *, group_ids=None):
        return None if allow_none else super().get_block_ids(group_ids=group_ids)


class TopPKVCacheManager(KVCacheManager):
    """vLLM's manager with a fast path for decode steps.

    The rows of all groups have equal length, so group 0 answers for all. Without this, a model with one
    group per layer pays the scheduling cost of every group for every token.
    """

    @classmethod
    def take_over(cls, manager: KVCacheManager) -> "TopPKVCacheManager":
        """Turn the manager that vLLM's scheduler built for itself into this one.

        The scheduler constructs `KVCacheManager` by name; this class adds no constructor state.
        """
        assert type(manager) is KVCacheManager
        manager.__class__ = cls
        manager._no_new_blocks = _NoNewBlocks(manager.empty_kv_cache_blocks.blocks)
        return manager

    def allocate_slots(
        self,
        request: Request,
        num_new_tokens: int,
        num_new_computed_tokens: int = 0,
        new_computed_blocks: KVCacheBlocks | None = None,
        num_lookahead_tokens: int = 0,
        *args,
        **kwargs,
    ) -> KVCacheBlocks | None:
        managers = self.coordinator.single_type_managers
        num_allocated = len(managers[0].req_to_blocks.get(request.request_id, ()))
        if not num_allocated or new_computed_blocks is not None or num_lookahead_tokens:
            return super().allocate_slots(
                request,
                num_new_tokens,
                num_new_computed_tokens,
                new_computed_blocks,
                num_lookahead_tokens,
                *args,
                **kwargs,
            )
        # Below: a running request without lookahead, the only kind that speculative decoding and KV
        # connectors (both refused at start) leave over.
        num_tokens = request.num_computed_tokens + num_new_tokens
        num_new_blocks = cdiv(min(num_tokens, self.max_model_len), managers[0].block_size) - num_allocated
        new_blocks = self._no_new_blocks
        if num_new_blocks > 0:
            if num_new_blocks * len(managers) > self.block_pool.get_num_free_blocks():
                return None
            new_blocks = self._extend_rows(request.request_id, num_new_blocks)
        self.cache_blocks(request, min(num_tokens, request.num_tokens))
        return new_blocks

    def _extend_rows(self, request_id: str, num_new_blocks: int) -> KVCacheBlocks:
        """Append blocks to the rows of all groups, taken from the pool at once."""
        managers = self.coordinator.single_type_managers
        pooled = self.block_pool.get_new_blocks(num_new_blocks * len(managers))
        rows = tuple(pooled[first : first + num_new_blocks] for first in range(0, len(pooled), num_new_blocks))
        for manager, row in zip(managers, rows, strict=True):
            manager.req_to_blocks[request_id].extend(row)
            if manager.records_new_block_ids:
                manager.new_block_ids.extend(block.block_id for block in row)
        return KVCacheBlocks(rows)

    def cache_blocks(self, request: Request, num_computed_tokens: int) -> None:
        """Hash full blocks of dense requests, and only when one has just become full."""
        if not self.enable_caching:
            return
        first = self.coordinator.single_type_managers[0]
        num_full_blocks = num_computed_tokens // first.block_size
        is_new = num_full_blocks > first.num_cached_block.get(request.request_id, 0)
        if is_new and not _is_sparse(request):
            super().cache_blocks(request, num_computed_tokens)
