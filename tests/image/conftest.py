"""Base images that hold as much as a build looks at."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.image.builder import REPOSITORY, Builder, download_wheels, make_debian, missing_tools

DEBIAN = "debian:bookworm-slim"

# Where Debian's Python looks for packages that pip installed.
SITE_PACKAGES = "/usr/local/lib/python3.11/dist-packages"

# As in vLLM's CUDA image.
VERSIONS = {"vllm": "0.32.0", "torch": "2.13.0+cu130"}


@pytest.fixture(scope="session")
def builder(tmp_path_factory) -> Iterator[Builder]:
    if reason := missing_tools():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("images")
    wheels = folder / "wheels"
    download_wheels(wheels, "hatchling>=1.26,<2")
    builder = Builder(folder / "overlay", wheels)
    if not builder.works():
        builder.remove_everything()
        builder = Builder(folder / "vfs", wheels, driver="vfs")
    yield builder
    builder.remove_everything()


@pytest.fixture(scope="session")
def debian(builder, tmp_path_factory) -> str:
    """The name of an image like Debian's own, with pip."""
    folder = tmp_path_factory.mktemp("debian")
    make_debian(folder / "root.tar", "python3", "python3-pip")
    return build_from(builder, folder, DEBIAN, "FROM scratch\nADD root.tar /\n")


def build_from(builder: Builder, folder: Path, tag: str, dockerfile: str) -> str:
    (folder / "Dockerfile").write_text(dockerfile)
    return builder.build(folder / "Dockerfile", tag, context=folder)


@pytest.fixture(scope="session")
def make_base(builder, debian, tmp_path_factory):
    """Make a base image on which vLLM and its companions are installed as far as pip can tell."""

    def make(tag: str, *, commands: str = "", **versions: str) -> str:
        folder = tmp_path_factory.mktemp("base")
        for name, number in {**_other_requirements(), **VERSIONS, **versions}.items():
            metadata = folder / "packages" / f"{name}-{number}.dist-info" / "METADATA"
            metadata.parent.mkdir(parents=True)
            metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        return build_from(builder, folder, tag, f"FROM {debian}\nCOPY packages {SITE_PACKAGES}\n{commands}")

    return make


def _other_requirements() -> dict[str, str]:
    """What the wheel needs beside vLLM, at the versions of this environment."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = [Requirement(line).name for line in project["dependencies"]]
    return {name: version(name) for name in names}


@pytest.fixture(scope="session")
def base(make_base) -> str:
    return make_base("vllm-openai:stub")


@pytest.fixture(scope="session")
def image(builder, base) -> str:
    return builder.build(REPOSITORY / "Dockerfile", "winnow:stub", BASE=base, REVISION="0123abc")


@pytest.fixture(scope="session")
def container(builder, image) -> str:
    return builder.container(image)
