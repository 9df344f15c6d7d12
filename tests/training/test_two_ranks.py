"""Two processes over gloo train what one process trains, with groups that lie across them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path, num_ranks: int) -> list[dict]:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.training.two_ranks", str(folder), str(8 // num_ranks)]
    if num_ranks > 1:
        # Loopback by address: a machine's own host name need not resolve, nor lead back to it.
        launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
        launcher.append(f"--nproc_per_node={num_ranks}")
        command = [sys.executable, *launcher, *command[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.update(ACCELERATE_USE_CPU="true", GLOO_SOCKET_IFNAME="lo")
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(num_ranks)]


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    return run(folder / "one", 1)[0], run(folder / "two", 2)


@pytest.mark.parametrize("name", ["sparsity_p", "kept", "pressure"])
def test_rows_are_the_same_whatever_rank_they_are_on(one_and_two, name):
    one, two = one_and_two
    assert two[0][name] + two[1][name] == one[name]


def test_advantages_are_normalised_over_the_whole_group(one_and_two):
    one, two = one_and_two
    assert two[0]["advantages"] + two[1]["advantages"] == pytest.approx(one["advantages"], abs=1e-5)


def test_ranks_agree_on_the_weights(one_and_two):
    _, two = one_and_two
    assert two[0]["weights"] == two[1]["weights"]


@pytest.mark.parametrize("name", ["kl", "distillation_kl", "reward", "token_ratio", "weights"])
def test_two_ranks_train_what_one_trains(one_and_two, name):
    one, two = one_and_two
    assert two[0][name] == pytest.approx(one[name], rel=2e-3, abs=2e-5)
