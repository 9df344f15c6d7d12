"""The command, with a made-up interpreter in the place of Python; and what every case says without a GPU."""

import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
import torch

from benchmarks.errors import NoCudaDevice
from benchmarks.registry import CASES, load
from benchmarks.running import parse

COMMAND = Path(__file__).parents[3] / "benchmarks" / "gpu.sh"
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def run(*groups, python=sys.executable, **environment):
    return subprocess.run(
        ["bash", str(COMMAND), *groups],
        env=os.environ | {"PYTHON": str(python)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def python(tmp_path):
    """An interpreter that notes its arguments; the case kernels fails, smoke hangs."""
    path = tmp_path / "python"
    path.write_text(
        f"""#!/bin/sh
echo "$@" >> {tmp_path}/calls
case "$2 $3 $4" in
"benchmarks run kernels") echo broken kernel; exit 5 ;;
"benchmarks run smoke") exec sleep 50 ;;
esac
"""
    )
    path.chmod(0o755)
    return path


def calls(python):
    return (python.parent / "calls").read_text().splitlines()


def test_bash_reads_it():
    subprocess.run(["bash", "-n", str(COMMAND)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    subprocess.run(["shellcheck", str(COMMAND)], check=True)


def test_a_failed_stage_is_recorded_and_the_next_ones_run(python, tmp_path):
    # smoke gets what is left, and is ended after that.
    result = run("check", "prefill", python=python, OUT=str(tmp_path), LIMIT_S="6", MARGIN_S="2")
    made = calls(python)
    assert made[0] == "-m benchmarks.gpu.device"
    assert made[1] == f"-m benchmarks run kernels --device cuda --out {tmp_path}"
    assert made[2].startswith("-m benchmarks.gpu.failure kernels 5 ")
    assert made[3].startswith(f"-m benchmarks run smoke --device cuda --out {tmp_path} --limit-s ")
    assert made[4].startswith("-m benchmarks.gpu.failure smoke 124 ")
    # Nothing is started without time for it.
    assert made[5].startswith("-m benchmarks.gpu.failure prefill 124 ")
    assert made[6].startswith("-m benchmarks.gpu.failure step_overhead 124 ")
    assert made[7] == f"-m benchmarks report --print --results {tmp_path}"
    assert "Failed: kernels smoke prefill step_overhead." in result.stdout
    assert result.returncode == 1


def test_a_stage_knows_its_limit(python, tmp_path):
    result = run("decode", "capacity", python=python, OUT=str(tmp_path), LIMIT_S="1800")
    assert result.returncode == 0
    assert calls(python)[1:3] == [
        f"-m benchmarks run decode --device cuda --out {tmp_path} --limit-s 540",
        f"-m benchmarks run capacity --device cuda --out {tmp_path} --limit-s 480",
    ]


def test_every_stage_is_a_case_with_these_options(python, tmp_path):
    run("prefill", "decode", "capacity", "decode-3b", python=python, OUT=str(tmp_path), LIMIT_S="3000")
    stages = [call.split()[3:] for call in calls(python) if call.startswith("-m benchmarks run ")]
    assert [case for case, *_ in stages] == ["prefill", "step_overhead", "decode", "capacity", "decode"]
    for case, *options in stages:
        args = parse(case, load(CASES[case].modules["cuda"]), options)
        assert (args.device, args.out) == ("cuda", tmp_path)


def test_unknown_group_is_refused(python):
    result = run("check", "everything", python=python)
    assert result.returncode == 2
    assert "There is no group 'everything'. Choose from check" in result.stderr
    assert not (python.parent / "calls").exists()


@without_gpu
def test_without_a_gpu_it_says_so(tmp_path):
    result = run(OUT=str(tmp_path))
    assert result.returncode == NoCudaDevice.exit_status
    assert "There is no CUDA device" in result.stderr
    assert list(tmp_path.iterdir()) == []


@without_gpu
@pytest.mark.parametrize("name", ["gpu_kernels", "gpu_smoke", "gpu_engine", "gpu_prefill", "gpu_capacity"])
def test_without_a_gpu_no_case_measures_anything(name):
    parser = ArgumentParser()
    load(name).add_arguments(parser)
    with pytest.raises(NoCudaDevice, match="There is no CUDA device"):
        load(name).run(parser.parse_args([]))


@without_gpu
def test_without_a_gpu_the_command_line_ends_with_a_status_of_its_own(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "run", "kernels", "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=COMMAND.parents[1], check=False)
    assert (result.returncode, result.stderr.count("\n")) == (NoCudaDevice.exit_status, 1)
    assert list(tmp_path.iterdir()) == []
