"""The stages of a prefill on CPU, on a small layer."""

import pytest
import torch

from benchmarks.cpu import prefill_stages
from benchmarks.cpu.prefill_stages import DENSE, DENSE_WRITE, STAGES, Heads, Prompt, times_ms
from benchmarks.errors import BenchmarkError


@pytest.fixture(scope="module")
def prompt():
    # 3 blocks, the last one partly empty.
    return Prompt(75, Heads(num_heads=4, num_kv_heads=2, head_size=32), token_ratio=0.25)


def test_attention_among_all_tokens_is_vllm_s(prompt):
    prompt.check()
    assert prompt.dense().abs().max() > 0.1


def test_wrong_attention_is_refused(prompt, monkeypatch):
    right = prefill_stages.attend_selected
    monkeypatch.setattr(prefill_stages, "attend_selected", lambda *args: right(*args) + 0.01)
    with pytest.raises(BenchmarkError, match=r"attend differs from vLLM's dense attention by 1\.0e-02 at 75 tokens"):
        prompt.check()


def test_the_stages_keep_what_they_are_told_to():
    prompt = Prompt(75, Heads(4, 2, 32), token_ratio=0.25)
    kept = prompt.select(prompt.estimate())
    assert len(kept) == 19
    rows = prompt.attend(kept).abs().sum((1, 2)).nonzero().flatten()
    assert rows.tolist() == kept.tolist()
    # Kept keys lie in the first slots of the prompt's blocks: 19 of 32 in the first one.
    cache = prompt.cache.clone()
    prompt.compact(kept)
    changed = (cache != prompt.cache).flatten(1).any(1).nonzero().flatten().tolist()
    assert changed == [int(prompt.block_row[0])]


def test_every_stage_is_timed_as_often_as_asked(prompt):
    times = times_ms(prompt.stages(), repeats=3)
    assert list(times) == [DENSE, DENSE_WRITE, *STAGES]
    assert all(len(of_stage) == 3 and min(of_stage) > 0 for of_stage in times.values())
    assert torch.is_grad_enabled()
