"""Causal attention among selected prompt tokens (ZipVL section 4.1; exclusion as in ZipR1 eq. 2)."""

import torch
from torch.nn.functional import scaled_dot_product_attention

# Query rows computed at a time when the causal pattern has gaps and needs an explicit mask.
_ROWS_AT_ONCE = 1024


def attend_selected(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    kept: torch.Tensor,
    num_prompt_tokens: int,
    scale: float,
    selection: str,
) -> torch.Tensor:
    """Attention of one sequence whose prompt keys are pruned to the kept set.

    Rows behind the prompt are generated tokens that a preempted request computes again: they attend the
    kept set and each other, as they did when they were decoded.

    Args:
        query: [num_tokens, num_heads, head_size], after rotary embedding; the prompt comes first.
        key: [num_tokens, num_kv_heads, head_size], after rotary embedding.
        value: [num_tokens, num_kv_heads, head_size].
        kept: ascending positions of the kept prompt tokens, [k], int64, at least one.
        num_prompt_tokens: L <= num_tokens.
        scale: softmax scale.
        selection: "keys" computes every row, the others kept rows only.

    Returns:
        [num_tokens, num_heads, head_size] in the dtype of `query`. Rows that are not computed, or that
        see no kept key, are 0.
    """
    num_tokens = query.shape[0]
    generated = torch.arange(num_prompt_tokens, num_tokens, device=kept.device)
    # [k + num_generated]
    columns = torch.cat([kept, generated])
    key, value = key[columns], value[columns]
    output = torch.zeros_like(query)
    if selection != "keys":
        # Rows and columns are the same ascending positions, so the pattern is an ordinary triangle.
        output[columns] = _attend(query[columns], key, value, scale, is_causal=True)
        return output
    # Rows before the first kept token see no key at all.
    for first in range(int(kept[0]), num_tokens, _ROWS_AT_ONCE):
        rows = torch.arange(first, min(first + _ROWS_AT_ONCE, num_tokens), device=kept.device)
        # [num_rows, k + num_generated]
        visible = columns <= rows[:, None]
        output[rows] = _attend(query[rows], key, value, scale, mask=visible)
    return output


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    is_causal: bool = False,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Grouped-query attention on [num_tokens, num_heads, head_size] tensors."""
    query, key, value = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (query, key, value))
    output = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=True
    )
    return output.squeeze(0).transpose(0, 1)
