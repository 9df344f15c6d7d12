"""The checks that run on a GPU, here on small tensors under Triton's interpreter: they pass, and they can fail."""

from functools import partial

import pytest
import torch

from benchmarks.cases.gpu_kernels import checks, outcome
from benchmarks.gpu import prefill_stages
from benchmarks.gpu.prompts import prefill_step
from benchmarks.gpu.virtualise_check import check_virtualise

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def step():
    return prefill_step((131, 65, 40), (0.9, 0.5, 0.97), 4, 2, 32, CPU, torch.float32)


@pytest.mark.parametrize("name", ["estimate", "select", "select fixed", "attend keys", "compact"])
def test_kernels_pass(step, name):
    rows = outcome(name, dict(checks(step, 3, CPU))[name])
    assert len(rows) >= 2
    assert [row for row in rows if not row["passed"]] == []


def test_virtualise_passes():
    rows = outcome("virtualise", partial(check_virtualise, 3, 6, 12, CPU))
    assert len(rows) == 4
    assert [row for row in rows if not row["passed"]] == []


def test_a_kernel_that_is_a_little_off_fails(step, monkeypatch):
    right = prefill_stages.estimate
    monkeypatch.setattr(prefill_stages, "estimate", lambda step: right(step) * 1.001)
    rows = outcome("estimate", dict(checks(step, 3, CPU))["estimate"])
    assert [row["passed"] for row in rows[:3]] == [False, False, True]


def test_unwritten_outputs_fail(step, monkeypatch):
    monkeypatch.setattr(prefill_stages, "attend_keys_step", lambda *arguments: None)
    rows = outcome("attend keys", dict(checks(step, 3, CPU))["attend keys"])
    assert [row["passed"] for row in rows] == [False, False, False, True]


def test_a_kernel_that_raises_is_a_failed_check_with_its_message(step, monkeypatch, capsys):
    def broken(step):
        raise ValueError("no such kernel")

    monkeypatch.setattr(prefill_stages, "estimate", broken)
    rows = outcome("estimate", dict(checks(step, 3, CPU))["estimate"])
    assert rows == [{"what": "estimate", "passed": False, "error": "ValueError: no such kernel"}]
    assert "no such kernel" in capsys.readouterr().err
