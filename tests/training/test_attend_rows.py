"""One varlen call computes what one call per row computes."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from training import attend_rows as module
from training.attend_rows import RowStates, attend_rows


def states(num_tokens: int, num_prompt_tokens: int, kept: list[int], seed: int) -> RowStates:
    torch.manual_seed(seed)
    query, key, value = (torch.randn(num_tokens, heads, 8, requires_grad=True) for heads in (4, 2, 2))
    return RowStates(query, key, value, torch.tensor(kept), num_prompt_tokens)


def varlen(query, key, value, starts, starts_k, longest, longest_k, softmax_scale, causal):
    """flash-attn's function, as its documentation has it."""
    assert starts.dtype == torch.int32
    assert torch.equal(starts, starts_k)
    assert longest == longest_k == int(starts.diff().max())
    parts = []
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        part = (tensor[first:last].transpose(0, 1)[None] for tensor in (query, key, value))
        parts.append(scaled_dot_product_attention(*part, is_causal=causal, scale=softmax_scale, enable_gqa=True)[0])
    return torch.cat([part.transpose(0, 1) for part in parts])


def test_a_varlen_call_equals_a_call_per_row(monkeypatch):
    rows = [states(7, 5, [0, 2, 4], 0), states(12, 12, [3, 11], 1), states(3, 2, [0, 1], 2)]
    apart = attend_rows(rows, 0.3, "zipvl")
    torch.cat(apart).square().sum().backward()
    gradients = [[tensor.grad.clone() for tensor in row[:3]] for row in rows]
    for row in rows:
        for tensor in row[:3]:
            tensor.grad = None

    monkeypatch.setattr(module, "flash_varlen", lambda query: varlen)
    together = attend_rows(rows, 0.3, "zipvl")
    torch.cat(together).square().sum().backward()
    for row, one, other, expected in zip(rows, apart, together, gradients, strict=True):
        torch.testing.assert_close(other, one)
        assert not one[[n for n in range(row.num_prompt_tokens) if n not in row.kept.tolist()]].any()
        for tensor, gradient in zip(row[:3], expected, strict=True):
            torch.testing.assert_close(tensor.grad, gradient)


def test_cpu_tensors_do_not_go_through_flash_attn():
    assert module.flash_varlen(torch.zeros(1, dtype=torch.bfloat16)) is None
