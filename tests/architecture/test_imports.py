"""Imports point one way: server -> attention_backend <- training; benchmarks may use all; nobody imports back.

`measurement` holds what benchmarks and the evaluation of training both write; it knows neither.
"""

import subprocess
import sys

import pytest

from .sources import PACKAGES, ROOT, imports_below

ALLOWED = {
    "attention_backend": {"attention_backend"},
    "server": {"server", "attention_backend"},
    "training": {"training", "attention_backend", "measurement"},
    "measurement": {"measurement"},
    "benchmarks": set(PACKAGES),
}
# In training it is two files: rollouts through vLLM, and the evaluation that runs a checkpoint as it is served.
VLLM_PLACES = (
    "attention_backend/vllm_adapter",
    "server",
    "benchmarks",
    "training/vllm_rollout.py",
    "training/evaluation/engine.py",
)

BLOCK_VLLM = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "vllm":
            raise ImportError(f"{name} is blocked in this test")

sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package):
    forbidden = {*PACKAGES, "tests"} - ALLOWED[package]
    assert [str(found) for found in imports_below(package) if found.top in forbidden] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_vllm_is_imported_only_by_its_adapters(package):
    adapters = [ROOT / place for place in VLLM_PLACES]
    wrong = [
        str(found)
        for found in imports_below(package)
        if found.top == "vllm" and not any(found.path.is_relative_to(place) for place in adapters)
    ]
    assert wrong == []


def modules_without_vllm() -> list[str]:
    """Every module of `attention_backend` outside its vLLM adapter."""
    paths = (path.relative_to(ROOT) for path in (ROOT / "attention_backend").rglob("*.py"))
    names = (".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return sorted(name for name in names if "vllm_adapter" not in name)


def test_the_algorithm_imports_where_vllm_is_missing():
    names = modules_without_vllm()
    assert "attention_backend.ops.select.reference" in names
    code = BLOCK_VLLM + "\n".join(f"import {name}" for name in names) + "\nprint('vllm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "False"


def test_importing_the_server_package_starts_nothing():
    code = "import server, sys; print(sorted({'vllm', 'torch', 'fastapi'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


def test_the_reference_shares_no_code_with_the_backend():
    found = imports_below("tests/reference")
    assert [str(i) for i in found if i.path.name == "dense_mask.py" and i.top in {*PACKAGES, "vllm"}] == []
