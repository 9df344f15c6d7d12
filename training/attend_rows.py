"""Attention of several pruned sequences: one varlen call of flash-attn where it is installed on CUDA, else SDPA."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch

from attention_backend.ops.attend import attend_selected


class RowStates(NamedTuple):
    """One row without its padding, the prompt first.

    Attributes:
        query: [num_tokens, num_heads, head_size], after rotary embedding.
        key: [num_tokens, num_kv_heads, head_size].
        value: like `key`.
        kept: ascending positions of the kept prompt tokens, [k].
        num_prompt_tokens: L.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    kept: torch.Tensor
    num_prompt_tokens: int

    @property
    def computed(self) -> torch.Tensor:
        """Positions that "zipvl" computes: kept prompt tokens, then all that was generated."""
        generated = torch.arange(self.num_prompt_tokens, len(self.query), device=self.kept.device)
        return torch.cat([self.kept, generated])


def attend_rows(rows: Sequence[RowStates], scaling: float, selection: str) -> list[torch.Tensor]:
    """Attention output of each row, [num_tokens, num_heads, head_size]; 0 where nothing is computed.

    Args:
        rows: of one batch and layer.
        scaling: softmax scale.
        selection: "zipvl" or "keys", as in `SparsityConfig`.
    """
    if selection == "zipvl" and (flash := flash_varlen(rows[0].query)) is not None:
        return _attend_at_once(rows, scaling, flash)
    return [attend_selected(*row[:4], row.num_prompt_tokens, scaling, selection) for row in rows]


def flash_varlen(query: torch.Tensor) -> Callable | None:
    """flash-attn's varlen function, if it is installed and takes tensors like this one."""
    fits = query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)
    return _flash_attn() if fits else None


@cache
def _flash_attn() -> Callable | None:
    if find_spec("flash_attn") is None:
        return None
    from flash_attn import flash_attn_varlen_func

    return flash_attn_varlen_func


def _attend_at_once(rows: Sequence[RowStates], scaling: float, flash: Callable) -> list[torch.Tensor]:
    """Gather, one causal call, scatter. Kept positions ascend, so among them the pattern is an ordinary triangle."""
    columns = [row.computed for row in rows]
    counts = [len(column) for column in columns]
    # [sum of counts, heads, head_size]
    states = [torch.cat([row[n][column] for row, column in zip(rows, columns, strict=True)]) for n in range(3)]
    starts = torch.tensor([0, *counts], device=states[0].device).cumsum(0).int()
    attended = flash(*states, starts, starts, max(counts), max(counts), softmax_scale=scaling, causal=True)
    parts = zip(rows, columns, attended.split(counts), strict=True)
    return [torch.zeros_like(row.query).index_copy(0, column, part) for row, column, part in parts]
