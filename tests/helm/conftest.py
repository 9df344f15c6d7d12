"""Helm, promtool, the chart rendered with every file of values, and a server such as a release runs."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helm.chart import CI_VALUES, EXAMPLES, KEY, Helm, Manifest
from tests.server.harness import Server, running_server


@pytest.fixture(scope="session")
def promtool(tool) -> Path:
    return tool("promtool")


@pytest.fixture(scope="session")
def helm4(tool) -> Helm:
    return Helm(tool("helm4"))


@pytest.fixture(scope="session", params=["helm3", "helm4"])
def helm(request, tool) -> Helm:
    """Both supported versions, one after the other."""
    return Helm(tool(request.param))


@pytest.fixture(scope="session", params=[*CI_VALUES, *EXAMPLES], ids=lambda path: f"{path.parent.name}/{path.stem}")
def values_file(request) -> Path:
    """Every file of values in the chart: those of the matrix and the examples."""
    return request.param


@pytest.fixture(scope="session")
def rendered(helm4) -> Callable[[Path], list[Manifest]]:
    """The manifests for a file of values, rendered once."""
    return cache(lambda path: helm4.render("--values", path))


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """It asks for KEY, as that of a release with `auth.apiKey`."""
    with running_server(tmp_path_factory.mktemp("server") / "log.txt", api_key=KEY) as server:
        yield server


@pytest.fixture(scope="session")
def manifests(values_file, rendered) -> list[Manifest]:
    return rendered(values_file)
