"""Importance against numbers worked by hand and against a plain double loop."""

import math

import pytest
import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.estimate import estimate_importance, probe_positions


def naive_importance(query, key, positions, scale):
    """Loops only: one softmax per probe and head, added up column by column."""
    _num_probes, num_heads, _ = query.shape
    num_tokens, num_kv_heads, _ = key.shape
    mass = torch.zeros(num_tokens, dtype=torch.float64)
    for row, position in enumerate(positions.tolist()):
        for head in range(num_heads):
            kv_head = head * num_kv_heads // num_heads
            logits = key[: position + 1, kv_head].double() @ query[row, head].double() * scale
            mass[: position + 1] += logits.softmax(0) / num_heads
    seen = torch.tensor([(positions >= column).sum() for column in range(num_tokens)])
    return mass, mass / seen


def test_three_tokens_worked_by_hand():
    # Keys 0, ln 2, ln 4 and queries of 1: rows (1), (1/3, 2/3), (1/7, 2/7, 4/7).
    key = torch.tensor([0.0, math.log(2), math.log(4)]).view(3, 1, 1)
    query = torch.ones(3, 1, 1)
    mass, score = estimate_importance(query, key, torch.arange(3), scale=1.0)
    expected = torch.tensor([1 + 1 / 3 + 1 / 7, 2 / 3 + 2 / 7, 4 / 7])
    torch.testing.assert_close(mass, expected)
    torch.testing.assert_close(score, expected / torch.tensor([3.0, 2.0, 1.0]))


@pytest.mark.parametrize("num_heads", [4, 8], ids=["2-queries-a-kv-head", "4-queries-a-kv-head"])
@pytest.mark.parametrize("num_tokens", [1, 63, 64, 65, 200])
def test_equals_double_loop(num_tokens, num_heads):
    torch.manual_seed(num_tokens)
    config = SparsityConfig(num_recent_probes=8, num_random_probes=8)
    positions = probe_positions(num_tokens, 3, config)
    query, key = torch.randn(len(positions), num_heads, 32), torch.randn(num_tokens, 2, 32)
    mass, score = estimate_importance(query, key, positions, scale=0.3)
    expected_mass, expected_score = naive_importance(query, key, positions, scale=0.3)
    torch.testing.assert_close(mass.double(), expected_mass, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(score.double(), expected_score, rtol=1e-5, atol=1e-6)


def test_mass_sums_to_number_of_probes():
    torch.manual_seed(0)
    mass, _ = estimate_importance(torch.randn(16, 4, 32), torch.randn(100, 4, 32), torch.arange(84, 100), 0.2)
    assert mass.sum().item() == pytest.approx(16, rel=1e-5)


def test_score_chunks_do_not_change_the_result(monkeypatch):
    torch.manual_seed(1)
    arguments = torch.randn(32, 8, 32), torch.randn(64, 2, 32), torch.arange(32, 64), 0.2
    whole = estimate_importance(*arguments)
    monkeypatch.setattr("attention_backend.ops.estimate.reference._MAX_SCORE_ELEMENTS", 1)
    torch.testing.assert_close(estimate_importance(*arguments).mass, whole.mass)


def test_short_prompts_and_exact_mode_probe_every_row():
    assert probe_positions(128, 0, SparsityConfig()).tolist() == list(range(128))
    assert probe_positions(300, 0, SparsityConfig(exact=True)).tolist() == list(range(300))


def test_probes_are_recent_rows_and_distinct_earlier_rows():
    positions = probe_positions(1000, 5, SparsityConfig())
    assert positions[64:].tolist() == list(range(936, 1000))
    earlier = positions[:64].tolist()
    assert earlier == sorted(set(earlier))
    assert len(earlier) == 64
    assert max(earlier) < 936


def test_probes_depend_on_length_and_layer_only():
    config = SparsityConfig()
    first = probe_positions(1000, 5, config)
    probe_positions.cache_clear()
    torch.manual_seed(123)
    assert probe_positions(1000, 5, config).tolist() == first.tolist()
    assert probe_positions(1000, 6, config).tolist() != first.tolist()
    assert probe_positions(1001, 5, config).tolist() != first.tolist()
    # The very rows: a change here changes every published ratio.
    assert first[:6].tolist() == [15, 23, 39, 120, 187, 221]
