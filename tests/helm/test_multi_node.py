"""One replica over several nodes: a LeaderWorkerSet, and the shell scripts that join its pods."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helm.chart import CHART, matches, pod_templates, the
from tests.server.harness import free_port, wait_until

ADDRESS = "127.0.0.1"
NUM_REFUSALS = 2


@pytest.fixture(scope="module")
def manifests(helm4):
    return helm4.render("--values", CHART / "examples/multi-node.yaml")


@pytest.fixture(scope="module")
def templates(manifests):
    return pod_templates(the(manifests, "LeaderWorkerSet"))


@pytest.fixture
def programs(tmp_path) -> Path:
    """A folder with a `ray` that writes down what it was called with, and refuses as often as it is told to."""
    log = tmp_path / "ray.log"
    ray = tmp_path / "ray"
    # As the real one: the leader's port answers some time before a worker may join.
    ray.write_text(f'#!/bin/sh\necho "$@" >>{log}\n[ $(wc -l <{log}) -gt ${{NUM_REFUSALS:-0}} ]\n')
    python3 = tmp_path / "python3"
    python3.symlink_to(sys.executable)
    ray.chmod(0o755)
    return tmp_path


def container(template):
    (container,) = template["spec"]["containers"]
    return container


def environment(programs: Path, **more: str) -> dict[str, str]:
    return {"PATH": f"{programs}:{os.environ['PATH']}", "VLLM_HOST_IP": ADDRESS, **more}


def test_a_replica_is_its_nodes_with_an_equal_share_of_the_gpus(manifests, templates):
    spec = the(manifests, "LeaderWorkerSet")["spec"]
    assert spec["replicas"] == 1
    assert spec["leaderWorkerTemplate"]["size"] == 2
    assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    gpus = [container(templates[role])["resources"]["limits"]["nvidia.com/gpu"] for role in ("server", "worker")]
    assert gpus == ["8", "8"]
    arguments = container(templates["server"])["args"]
    assert arguments[arguments.index("--tensor-parallel-size") + 1] == "16"
    assert arguments[arguments.index("--distributed-executor-backend") + 1] == "ray"


def test_only_the_leader_answers_requests(templates):
    leader, worker = container(templates["server"]), container(templates["worker"])
    assert "ports" in leader
    assert {"ports", "args", "readinessProbe", "livenessProbe", "startupProbe"}.isdisjoint(worker)


def test_both_have_the_same_image_folders_and_time_to_stop(templates):
    leader, worker = templates["server"]["spec"], templates["worker"]["spec"]
    assert leader["volumes"] == worker["volumes"]
    assert leader["terminationGracePeriodSeconds"] == worker["terminationGracePeriodSeconds"]
    for key in ("image", "volumeMounts", "resources", "securityContext"):
        assert container(templates["server"])[key] == container(templates["worker"])[key]


def test_the_leader_starts_ray_and_becomes_the_server(templates, programs):
    """`server` is a module of the test here, which shows what arrives."""
    (programs / "server.py").write_text("import os, sys; print(os.getpid(), sys.argv[1:])")
    leader = container(templates["server"])
    arguments = [*leader["args"], "--limit-mm-per-prompt", '{"image": 4, "b\'c": "$HOME"}', "", "two words"]
    process = subprocess.Popen(
        [*leader["command"], *arguments], env=environment(programs), cwd=programs, stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate(timeout=60)
    assert output == f"{process.pid} {arguments}\n"
    assert (programs / "ray.log").read_text().startswith(f"start --head --port=6379 --node-ip-address={ADDRESS} ")


def test_a_leader_without_ray_fails(templates, programs):
    (programs / "ray").write_text("#!/bin/sh\nexit 7\n")
    leader = container(templates["server"])
    assert subprocess.run(leader["command"], env=environment(programs), check=False).returncode == 7


@pytest.fixture
def worker(helm4, programs):
    """The worker's process, and the port where it expects the leader's Ray."""
    port = free_port()
    sets = f"multiNode.enabled=true,parallel.tensor=2,multiNode.rayPort={port}"
    group = the(helm4.render("--set", sets), "LeaderWorkerSet")
    process = subprocess.Popen(
        container(pod_templates(group)["worker"])["command"],
        env=environment(programs, LWS_LEADER_ADDRESS=ADDRESS, NUM_REFUSALS=str(NUM_REFUSALS)),
        process_group=0,
    )
    yield process, port
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_worker_waits_for_its_leader_and_goes_when_that_goes(worker, programs):
    process, port = worker
    time.sleep(1)
    assert not (programs / "ray.log").exists()
    with socket.create_server((ADDRESS, port)):
        wait_until(lambda: num_calls(programs) == 1 + NUM_REFUSALS, 60, "joining the leader")
        assert f"--address={ADDRESS}:{port} --node-ip-address={ADDRESS}" in (programs / "ray.log").read_text()
        time.sleep(2)
        process.terminate()
        time.sleep(2)
        assert process.poll() is None
    assert process.wait(timeout=60) == 1
    assert num_calls(programs) == 1 + NUM_REFUSALS


def num_calls(programs: Path) -> int:
    log = programs / "ray.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_worker_that_never_met_its_leader_stops_at_once(worker):
    process, _ = worker
    time.sleep(1)
    process.terminate()
    assert process.wait(timeout=60) == 0


def test_the_policy_lets_the_pods_of_a_replica_talk(helm4):
    manifests = helm4.render("--values", CHART / "examples/multi-node.yaml")
    spec = the(manifests, "NetworkPolicy")["spec"]
    (peer,) = spec["ingress"][-1]["from"]
    assert spec["egress"][-1] == {"to": [peer]}
    assert "ports" not in spec["ingress"][-1]
    for template in pod_templates(the(manifests, "LeaderWorkerSet")).values():
        assert matches(peer["podSelector"], template["metadata"]["labels"])
