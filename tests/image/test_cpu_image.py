"""The CPU image for real: built with all its packages, started as a restricted pod, and asked about a picture.

It fetches the wheels of a whole environment and needs about 20 GB of disk for a while, so it is no part of the ordinary
run: `make test PYTEST_ARGS='-m image'`.
"""

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.image.builder import ARBITRARY_UID, REPOSITORY, download_wheels
from tests.image.pod import Pod, running_pod
from tests.server.harness import START_TIMEOUT_S, free_port, wait_until

pytestmark = [pytest.mark.image, pytest.mark.timeout(3600)]

BASE_DOCKERFILE = REPOSITORY / "docker" / "cpu-base.Dockerfile"
BASE_TAG = "winnow-cpu-base"
RAY_VERSION = "2.60.0"
DRAIN_S = 240
NUM_TOKENS = 100


@pytest.fixture(scope="module")
def cpu_image(builder, debian) -> str:
    """Both Dockerfiles as they are; only where packages come from is ours."""
    torch_index = ["--extra-index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    not_served = re.search(r'^ARG NOT_SERVED="(.+)"$', BASE_DOCKERFILE.read_text(), re.MULTILINE)[1]
    served = builder.wheels.parent / "served.txt"
    lines = (REPOSITORY / "constraints-cpu.txt").read_text().splitlines()
    served.write_text("\n".join(line for line in lines if not re.match(rf"({not_served})==", line)))
    download_wheels(builder.wheels, "--no-deps", *torch_index, "torch==2.13.0+cpu", "--requirement", str(served))
    base = builder.build(BASE_DOCKERFILE, BASE_TAG, BASE=debian)
    return builder.build(REPOSITORY / "Dockerfile", "winnow:cpu", BASE=base)


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def pod(builder, cpu_image, url, tmp_path_factory) -> Iterator[Pod]:
    root = builder.mount(builder.container(cpu_image))
    log = tmp_path_factory.mktemp("pod") / "log.txt"
    arguments = ["--model", "demo", "--port", url.rpartition(":")[2], "--shutdown-timeout", str(DRAIN_S)]
    with running_pod(root, builder.configuration(cpu_image), arguments, log) as pod:
        wait_until(
            lambda: "Ask it something" in log.read_text() or pod.process.poll() is not None,
            2 * START_TIMEOUT_S,
            "the server's start",
        )
        assert pod.process.poll() is None, log.read_text()[-4000:]
        yield pod


def test_it_runs_without_any_right(pod):
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pod.pid}/status").read_text().splitlines())
    assert status["Uid"].split() == [str(ARBITRARY_UID)] * 4
    assert status["Gid"].split() == ["0"] * 4
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    result = pod.execute("sh", "-c", "echo x > /usr/local/x")
    assert result.returncode != 0


def test_it_answers_about_a_picture(pod, url):
    body = (REPOSITORY / "server" / "assets" / "demo_request.json").read_bytes()
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{url}/v1/chat/completions", content=body, headers=headers, timeout=120).json()
    assert answer["choices"][0]["message"]["content"] == "cyan"
    assert answer["usage"]["sparsity"]["sparsity_p"] == 0.975
    assert answer["usage"]["sparsity"]["token_ratio"] < 0.9


def test_its_health_check_finds_it(pod, builder, cpu_image):
    _, *command = builder.configuration(cpu_image)["Healthcheck"]["Test"]
    result = pod.execute(*command)
    assert (result.returncode, result.stderr) == (0, "")


def test_it_complains_about_no_folder(pod):
    complaint = re.compile("read-only file system|permission denied|not a writable directory", re.IGNORECASE)
    assert [line for line in pod.log.read_text().splitlines() if complaint.search(line)] == []


def test_ray_comes_with_a_build_argument(builder, cpu_image):
    download_wheels(builder.wheels, f"ray=={RAY_VERSION}")
    image = builder.build(REPOSITORY / "Dockerfile", "winnow:ray", BASE=BASE_TAG, RAY_VERSION=RAY_VERSION)
    result = builder.run(builder.container(image), "python3", "-c", "import ray; print(ray.__version__)")
    assert result.stdout.strip() == RAY_VERSION


def test_it_ends_when_told_to_and_finishes_what_it_has_begun(pod, url):
    """The last test: it stops the server."""
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Who are you?"}],
        "stream": True,
        "ignore_eos": True,
        "max_tokens": NUM_TOKENS,
    }
    with (
        ThreadPoolExecutor(1) as stopping,
        httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=2 * DRAIN_S) as stream,
    ):
        lines = (line.removeprefix("data: ") for line in stream.iter_lines() if line)
        next(lines)
        status = stopping.submit(pod.terminate, DRAIN_S)
        *_, last, end = lines
    assert (json.loads(last)["choices"][0]["finish_reason"], end) == ("length", "[DONE]")
    assert status.result() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")
