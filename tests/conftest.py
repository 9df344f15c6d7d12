"""Settings every test shares; they must stand before torch or vLLM is imported, and reach spawned processes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# It would come before the sizes that tests ask for.
os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Triton kernels run on CPU tensors here; it must be set before triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

# The same few examples in every run; `pytest --hypothesis-profile=wide` draws many, and others each time.
settings.register_profile(
    "ordinary",
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "wide", settings.get_profile("ordinary"), max_examples=2000, derandomize=False, print_blob=True
)
settings.load_profile("ordinary")


@pytest.fixture(autouse=True)
def _environment_is_read_anew():
    """An engine in this process makes vLLM read its environment variables once and for all; tests change them."""
    if "vllm.envs" in sys.modules:
        sys.modules["vllm.envs"].disable_envs_cache()


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """The path of a program of packaging/tools.sh; its absence is a failure, because nothing would be tested."""
    tools = Path(sys.prefix) / "tools"

    def find(name: str) -> Path:
        path = tools / "bin" / name
        if not path.is_file():
            pytest.fail(f"{path} is missing. Run `make test`, or: bash packaging/tools.sh {tools} {sys.executable}")
        return path

    return find
