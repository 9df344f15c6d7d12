"""Rollouts through vLLM, in a process of their own: TRL's colocated engine joins torch's default process group, and an
engine that an earlier test leaves behind would be in its way."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHECKS = "tests/training/vllm_rollout_checks.py"


def test_rollouts_through_vllm():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CHECKS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-10_000:] + result.stderr[-2_000:]
    assert " passed" in result.stdout
