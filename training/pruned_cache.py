"""A KV cache for `generate` that holds only kept prompt tokens: logical length, pruned storage.

Cutting a `DynamicCache` in place is silently wrong: transformers derives positions and masks from its length, and rows
of a left-padded batch keep different numbers of tokens. Here the length that transformers sees stays the logical one,
and a mask beside the storage says which slots hold a token.
"""

import torch
from transformers.cache_utils import Cache, DynamicLayer


class PrunedLayer(DynamicLayer):
    """One layer: the prompt's kept keys and values at the front, generated ones behind.

    Attributes:
        valid: slots that hold a token, [num_rows, num_slots], bool; None before `prune`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.valid: torch.Tensor | None = None
        self._num_logical_tokens = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append; `valid` grows by as many slots that hold a token."""
        self._num_logical_tokens += key_states.shape[-2]
        if self.valid is not None:
            added = self.valid.new_ones(self.valid.shape[0], key_states.shape[-2])
            self.valid = torch.cat([self.valid, added], dim=1)
        return super().update(key_states, value_states, *args, **kwargs)

    def prune(self, kept: torch.Tensor) -> None:
        """Drop every token that no row keeps, and move kept ones to the front of their row.

        Args:
            kept: [num_rows, num_tokens], bool, over all tokens stored so far.
        """
        num_slots = int(kept.sum(dim=1).max())
        # A stable sort of "dropped" puts the kept ones first, in their order. [num_rows, num_slots]
        order = (~kept).byte().argsort(dim=1, stable=True)[:, :num_slots]
        # [num_rows, num_kv_heads, num_slots, head_size]
        index = order[:, None, :, None].expand(-1, self.keys.shape[1], -1, self.keys.shape[3])
        self.keys, self.values = self.keys.gather(2, index), self.values.gather(2, index)
        self.valid = kept.gather(1, order)

    def get_seq_length(self) -> int:
        """Tokens seen, pruned ones included: what positions count from."""
        return self._num_logical_tokens

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.valid, self._num_logical_tokens = None, 0

    def _refuse(self, *args, **kwargs):
        raise NotImplementedError(
            "A pruned cache cannot be cropped or reordered: beam search and assisted generation are not supported. "
            "Generate by sampling or greedily."
        )

    crop = reorder_cache = batch_repeat_interleave = batch_select_indices = _refuse


def use_pruned_layers(cache: Cache) -> None:
    """Make an empty cache that `generate` prepared hold pruned layers, in place.

    Raises:
        ValueError: tokens are stored in it already.
    """
    if cache.get_seq_length():
        raise ValueError(
            f"past_key_values holds {cache.get_seq_length()} tokens, but a sparse prompt must be prefilled whole. "
            "Generate without a cache of your own and without chunked prefill."
        )
    cache.layers = [PrunedLayer() for _ in cache.layers]
