"""The backend's operators against the independent reference, on random tensors."""

import pytest
import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.attend.reference import attend_selected
from attention_backend.ops.estimate.reference import estimate_importance, probe_positions
from attention_backend.ops.select.reference import forced_tokens, select_tokens

from .dense_mask import Rule, attention_probabilities, select, visibility

HEAD_SIZE = 16
SCALE = HEAD_SIZE**-0.5


def random_tensors(num_tokens: int, num_heads: int, num_kv_heads: int) -> tuple[torch.Tensor, ...]:
    """query [tokens, heads, head_size], key and value [tokens, kv_heads, head_size]."""
    generator = torch.Generator().manual_seed(num_tokens + num_heads)
    shapes = [(num_tokens, heads, HEAD_SIZE) for heads in (num_heads, num_kv_heads, num_kv_heads)]
    return tuple(2 * torch.randn(shape, generator=generator) for shape in shapes)


def per_head(tensor: torch.Tensor, num_heads: int) -> torch.Tensor:
    """[tokens, kv_heads, head_size] -> [heads, tokens, head_size]."""
    return tensor.transpose(0, 1).repeat_interleave(num_heads // tensor.shape[1], dim=0)


sizes = pytest.mark.parametrize("num_tokens", [1, 5, 63, 128, 129, 300])
groups = pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(2, 2), (4, 1), (8, 1)], ids=["1", "4", "8"])


@sizes
@groups
@pytest.mark.parametrize("sparsity_p", [0.3, 0.9, 0.975, 1.0])
def test_same_kept_set(num_tokens, num_heads, num_kv_heads, sparsity_p):
    config = SparsityConfig(num_sink_tokens=1)
    query, key, _ = random_tensors(num_tokens, num_heads, num_kv_heads)
    positions = probe_positions(num_tokens, 3, config)
    importance = estimate_importance(query[positions], key, positions, SCALE)
    kept = select_tokens(importance.mass, importance.score, sparsity_p, forced_tokens(num_tokens, config))

    rule = Rule(sparsity_p, probe_positions=lambda length, layer: positions, num_sink_tokens=1)
    expected = select(per_head(query, num_heads), per_head(key, num_heads), SCALE, 3, rule)
    torch.testing.assert_close(importance.mass.double(), expected.mass, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(importance.score.double(), expected.score, atol=1e-5, rtol=1e-5)
    assert kept.tolist() == expected.kept.tolist()


@sizes
@groups
@pytest.mark.parametrize("selection", ["zipvl", "keys"])
@pytest.mark.parametrize("num_generated", [0, 3])
def test_same_attention_output(num_tokens, num_heads, num_kv_heads, selection, num_generated):
    query, key, value = random_tensors(num_tokens + num_generated, num_heads, num_kv_heads)
    order = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(num_tokens))
    kept = order[: num_tokens // 2 + 1].sort().values
    output = attend_selected(query, key, value, kept, num_tokens, SCALE, selection)

    visible = visibility(num_tokens + num_generated, num_tokens, kept, selection)
    query, key, value = (per_head(tensor, num_heads) for tensor in (query, key, value))
    expected = attention_probabilities(query, key, visible, SCALE) @ value
    torch.testing.assert_close(output, expected.transpose(0, 1), atol=1e-5, rtol=1e-5)
