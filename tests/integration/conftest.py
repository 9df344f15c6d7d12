"""Engines are expensive: one of each kind for the whole run."""

import json

import pytest

from attention_backend import SparsityConfig
from tests.integration.harness import Engine, run_script


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
def stock_outputs(tmp_path_factory):
    """What stock vLLM answers: stock backend, stock scheduler, no plugin, a process of its own."""
    out = tmp_path_factory.mktemp("stock") / "answers.json"
    result = run_script("stock_vllm.py", str(out), VLLM_PLUGINS="")
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(out.read_text())
