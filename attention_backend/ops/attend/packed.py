"""Attention of a step's sparse prompts on packed rows, by the kernels beside this file and a varlen attention."""

from collections.abc import Callable

import torch

from attention_backend.ops.attend.kernel import attend_keys, pack_positions, pack_rows, stored_offsets, unpack_rows
from attention_backend.ops.prefill_batch import PrefillBatch

# Causal attention over packed sequences: query, key, value, offsets [n + 1], longest sequence -> like query.
VarlenAttention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]


def attend_packed(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rank: torch.Tensor,
    num_kept: torch.Tensor,
    batch: PrefillBatch,
    scale: float,
    selection: str,
    attend_varlen: VarlenAttention,
    out: torch.Tensor,
) -> None:
    """What `attend_selected` computes for one prompt, for all sparse prompts of a step.

    Args:
        query: [num_tokens, num_heads, head_size], after rotary embedding.
        key, value: [num_tokens, num_kv_heads, head_size].
        rank: index of every token among the stored tokens of its prompt, -1 when dropped, [num_tokens], int32.
        num_kept: k of every prompt, [n], int32.
        batch: the sparse prompts.
        scale: softmax scale.
        selection: "keys" computes every row, any other kept rows only.
        attend_varlen: computes the kept rows, whose pattern is an ordinary triangle: rows and columns are the same
            ascending positions.
        out: like `query`; written for tokens of sparse prompts only.
    """
    offsets = stored_offsets(num_kept, batch)
    key, value = (pack_rows(rows, rank, batch, offsets) for rows in (key, value))
    if selection == "keys":
        positions = pack_positions(rank, batch, offsets)
        attend_keys(query, key, value, positions, batch, offsets, scale, out)
        return
    query = pack_rows(query, rank, batch, offsets)
    attended = attend_varlen(query, key, value, offsets, batch.max_num_tokens)
    unpack_rows(attended, rank, batch, offsets, out)
