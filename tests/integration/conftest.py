"""Engines are expensive: one of each kind for the whole run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attention_backend import SparsityConfig
from tests.integration.harness import Engine


@pytest.fixture(scope="session")
def zipvl_engine():
    """The default mode. No prefix cache: scenarios repeat prompts, and blocks are counted."""
    return Engine(SparsityConfig(), enable_prefix_caching=False)


@pytest.fixture(scope="session")
def keys_engine():
    return Engine(SparsityConfig(selection="keys"), enable_prefix_caching=False)


@pytest.fixture(scope="session")
def small_engine():
    """A cache that holds 8 dense requests of about 290 tokens (4 layers x 10 blocks each)."""
    return Engine(SparsityConfig(), enable_prefix_caching=False, num_gpu_blocks_override=8 * 40 + 1, max_model_len=640)


@pytest.fixture(scope="session")
def stock_outputs():
    """What stock vLLM answers: stock backend, stock scheduler, no plugin, a process of its own."""
    script = Path(__file__).with_name("stock_vllm.py")
    environment = os.environ | {"VLLM_PLUGINS": ""}
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])
