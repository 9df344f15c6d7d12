"""The pods of `helm test`, run as processes against a real server; and that they notice what is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.helm.chart import KEY, of_kind, the
from tests.server.harness import free_port

CHECKS = ["models", "chat", "stream", "sparsity"]


@pytest.fixture(scope="module")
def pods(helm4) -> dict[str, dict]:
    manifests = helm4.render("--set", "sparsity.min=0.2,auth.apiKey.existingSecret=secret")
    return {pod["spec"]["containers"][0]["command"][-1]: pod for pod in of_kind(manifests, "Pod")}


@pytest.fixture(scope="module")
def run(helm4, pods, server, tmp_path_factory) -> Callable[..., subprocess.CompletedProcess]:
    """Runs the command of a pod in its environment, the Service's address and the secret filled in."""
    folder = tmp_path_factory.mktemp("checks")
    for name, text in the(helm4.render(), "ConfigMap")["data"].items():
        (folder / name).write_text(text)

    def run(check: str, **changes: str) -> subprocess.CompletedProcess:
        (container,) = pods[check]["spec"]["containers"]
        assert container["volumeMounts"] == [{"name": "checks", "mountPath": "/checks", "readOnly": True}]
        python3, script, argument = container["command"]
        assert python3 == "python3"
        values = {item["name"]: item.get("value", KEY) for item in container["env"]}
        environment = {"PATH": os.environ["PATH"], **values, "SERVER": server.url, **changes}
        command = [sys.executable, script.replace("/checks", str(folder)), argument]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_there_is_a_pod_for_each_check(pods):
    assert list(pods) == CHECKS
    for pod in pods.values():
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert pod["spec"]["restartPolicy"] == "Never"
        assert "nvidia.com/gpu" not in str(pod["spec"]["containers"][0]["resources"])


def test_pods_ask_the_service_with_the_key(pods, helm4):
    (port,) = the(helm4.render(), "Service")["spec"]["ports"]
    for pod in pods.values():
        variables = {item["name"]: item for item in pod["spec"]["containers"][0]["env"]}
        assert variables["SERVER"]["value"] == f"http://winnow:{port['port']}"
        assert variables["OPENAI_API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "secret", "key": "api-key"}}


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("models", "served: demo"),
        ("chat", "'"),
        ("stream", "events, 16 tokens"),
        ("sparsity", "token_ratio 0."),
    ],
    ids=CHECKS,
)
def test_a_check_passes_against_a_real_server(run, check, words):
    result = run(check)
    assert (result.returncode, result.stderr) == (0, "")
    assert words in result.stdout


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_fails_without_the_key(run, check):
    result = run(check, OPENAI_API_KEY="")
    assert result.returncode == 1
    assert "HTTP 401" in result.stderr


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_fails_for_another_model(run, check):
    result = run(check, MODEL="another")
    assert result.returncode == 1
    assert "another" in result.stderr


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_fails_where_nothing_listens(run, check):
    result = run(check, SERVER=f"http://127.0.0.1:{free_port()}")
    assert result.returncode == 1
    assert "does not answer" in result.stderr


def test_the_sparsity_check_fails_for_a_value_that_the_server_refuses(run):
    result = run("sparsity", SPARSITY_P="0.1")
    assert result.returncode == 1
    assert "HTTP 400 instead of 200" in result.stderr


@pytest.mark.parametrize(
    ("values", "tested"),
    [("sparsity.min=0", "0.9"), ("sparsity.min=0.95", "0.95"), ("sparsity.max=0.5,sparsity.default=0.5", "0.5")],
    ids=["open", "high minimum", "low maximum"],
)
def test_the_value_that_is_tested_lies_within_the_bounds(helm4, values, tested):
    for pod in of_kind(helm4.render("--set", values), "Pod"):
        assert {"name": "SPARSITY_P", "value": tested} in pod["spec"]["containers"][0]["env"]
