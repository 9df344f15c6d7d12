"""Selected attention against a dense mask written out in float64."""

import pytest
import torch

from attention_backend.ops.attend import attend_selected


def dense_mask_attention(query, key, value, kept, num_prompt_tokens, scale, selection):
    """Row by row over all keys with -inf where a key is excluded."""
    num_tokens, num_heads, _ = query.shape
    group_size = num_heads // key.shape[1]
    columns = set(kept.tolist()) | set(range(num_prompt_tokens, num_tokens))
    output = torch.zeros(query.shape, dtype=torch.float64)
    for row in range(num_tokens):
        if selection == "zipvl" and row not in columns:
            continue
        visible = [column for column in sorted(columns) if column <= row]
        if not visible:
            continue
        for head in range(num_heads):
            keys, values = key[visible, head // group_size].double(), value[visible, head // group_size].double()
            output[row, head] = (keys @ query[row, head].double() * scale).softmax(0) @ values
    return output


@pytest.mark.parametrize("selection", ["zipvl", "keys"])
@pytest.mark.parametrize("num_generated", [0, 5], ids=["prompt", "prompt-and-recomputed-tokens"])
@pytest.mark.parametrize("kept", [[0, 1, 5, 30, 36], [4, 33, 36], [36], list(range(37))])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_equals_dense_mask(selection, num_generated, kept, num_kv_heads):
    torch.manual_seed(0)
    num_prompt_tokens, kept = 37, torch.tensor(kept)
    num_tokens = num_prompt_tokens + num_generated
    query = torch.randn(num_tokens, 4, 32)
    key, value = torch.randn(2, num_tokens, num_kv_heads, 32)
    arguments = kept, num_prompt_tokens, 0.2, selection
    output = attend_selected(query, key, value, *arguments)
    torch.testing.assert_close(output.double(), dense_mask_attention(query, key, value, *arguments), rtol=0, atol=1e-5)


def test_excluded_tokens_have_no_influence():
    """Poison everything that is not kept: it must not show."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 20, 2, 32)
    kept = torch.tensor([2, 9, 19])
    clean = attend_selected(query, key, value, kept, 20, 0.2, "keys")
    excluded = torch.ones(20, dtype=torch.bool)
    excluded[kept] = False
    key[excluded], value[excluded] = float("nan"), float("nan")
    torch.testing.assert_close(attend_selected(query, key, value, kept, 20, 0.2, "keys"), clean, rtol=0, atol=0)


def test_keys_mode_is_the_same_in_chunks(monkeypatch):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 50, 2, 32)
    kept = torch.tensor([7, 20, 49])
    whole = attend_selected(query, key, value, kept, 50, 0.2, "keys")
    monkeypatch.setattr("attention_backend.ops.attend.reference._ROWS_AT_ONCE", 11)
    torch.testing.assert_close(attend_selected(query, key, value, kept, 50, 0.2, "keys"), whole)


def test_keeping_everything_is_dense_causal_attention():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 33, 4, 32)
    everything = torch.arange(33)
    zipvl, keys = (attend_selected(query, key, value, everything, 33, 0.2, mode) for mode in ("zipvl", "keys"))
    torch.testing.assert_close(zipvl, keys, rtol=0, atol=1e-6)
