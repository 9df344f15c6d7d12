"""docker/check_packages.py: what stops the build of an image, on packages of this environment and one that misfits."""

import os
import subprocess
import sys

import pytest

from tests.image.builder import REPOSITORY

SCRIPT = REPOSITORY / "docker/check_packages.py"


@pytest.fixture
def check(tmp_path):
    """Runs the script where a distribution `needy` is installed whose requirement is not."""
    metadata = tmp_path / "needy-1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: needy\nVersion: 1\nRequires-Dist: nowhere\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, SCRIPT, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_an_environment_that_fits_passes(check):
    """torch's local version and the name of vLLM's CPU build make no difference."""
    result = check("--of", "pytest", "vllm==0.32.0", "torch==2.13.0")
    assert (result.returncode, result.stderr) == (0, "")


def test_every_fault_is_named(check):
    result = check("--of", "needy", "vllm==0.31.1", "nobody==2")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "This image does not fit: vllm is 0.32.0, but 0.31.1 is needed. Choose another base image.",
        "This image does not fit: nobody is not installed, but 2 is needed.",
        "This image does not fit: needy 1 requires nowhere, which is not installed.",
    ]


def test_a_requirement_may_be_missing_by_name(check):
    assert check("--of", "needy", "--without", "nowhere").returncode == 0


def test_it_is_run_by_both_dockerfiles():
    for dockerfile in ("Dockerfile", "docker/cpu-base.Dockerfile"):
        text = (REPOSITORY / dockerfile).read_text()
        assert f"source={SCRIPT.relative_to(REPOSITORY)},target=/tmp/check_packages.py" in text
        assert "&& python3 /tmp/check_packages.py --" in text
