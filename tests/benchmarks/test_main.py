"""The command line: what it prints, writes and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from measurement.results import Result, read, write

ROOT = Path(__file__).parents[2]
STEP_OVERHEAD = [
    "--num-layers",
    "2",
    "3",
    "--num-requests",
    "4",
    "--prompt-tokens",
    "64",
    "--steps",
    "8",
    "--rounds",
    "1",
]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def run(*argv: str) -> subprocess.CompletedProcess:
    """The command in a process of its own, as a user calls it."""
    command = [sys.executable, "-m", "benchmarks", *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


def last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """A result that the command line wrote."""
    folder = tmp_path_factory.mktemp("results")
    done = run("run", "step_overhead", *STEP_OVERHEAD, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    assert done.stdout.startswith("| scheduler | median | p20 | p80 |")
    assert last_line(done.stdout) == f"Wrote {path}"
    return path


def test_run_writes_one_result_with_what_was_asked(measured):
    result = read(measured)
    assert result.case == "step_overhead"
    assert (result.arguments["num_layers"], result.arguments["steps"]) == ([2, 3], 8)
    assert {"commit", "cpu", "torch"} <= result.environment.keys()


def test_list_shows_every_case(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "devices", "baseline", "measures"]
    assert [line.split()[0] for line in lines[1:]] == [
        *("quality", "capacity", "decode", "prefill", "step_overhead", "serve", "soak", "kernels", "smoke")
    ]


def test_compare_a_result_with_itself(measured, capsys):
    assert main(["compare", str(measured), str(measured)]) == 0
    out = capsys.readouterr().out
    assert "num_layers 2, num_requests 4, variant vLLM AsyncScheduler, 1 group | median |" in out
    assert out.count(" 1.000 (") == 8
    assert last_line(out) == "Same arguments and same environment."


def test_plot_writes_the_figures_of_a_result(measured, tmp_path, capsys):
    assert main(["plot", str(measured), "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{measured.stem}-{name}.png" for name in ("dense-requests", "sparse-requests")}
    assert capsys.readouterr().out.count("Wrote ") == 2


def test_plot_says_where_there_is_nothing_to_draw(tmp_path, capsys):
    path = write(Result("gpu_kernels", {}, {}, {}, [], []), tmp_path)
    assert main(["plot", str(path), "--out", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == f"{path} has no figures.\n"


def test_foreign_file_stops_a_plot_before_anything_is_written(measured, tmp_path, capsys):
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps({"model": "x"}))
    assert main(["plot", str(measured), str(foreign), "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()
    assert capsys.readouterr().err.startswith("schema of foreign.json is None, but must be")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(["fly"], "invalid choice: 'fly'", id="unknown command"),
        pytest.param([], "the following arguments are required: command", id="no command"),
        pytest.param(["run"], "run got no case", id="no case"),
        pytest.param(["run", "speed"], "case is 'speed', but must be one of", id="unknown case"),
        pytest.param(["run", "kernels", "--device", "cpu"], "kernels runs on cuda only", id="other device"),
        pytest.param(
            ["run", "quality", "--colour", "red"], "unrecognized arguments: --colour red", id="unknown option"
        ),
        pytest.param(["run", "quality", "--sparsity-p", "0.9"], "among them 1, the dense baseline", id="no baseline"),
        pytest.param(["run", "quality", "--count", "many"], "invalid int value: 'many'", id="no number"),
        pytest.param(["run", "--short", "--update-readme"], "documents show whole runs only", id="short in README"),
        pytest.param(["run", "quality", "--short", "--update-readme"], "shows no such run", id="short case in README"),
        pytest.param(["compare", "a.json"], "the following arguments are required|expected 2", id="one file"),
        pytest.param(["compare", "a.json", "b.json"], "a.json cannot be read: No such file", id="no such file"),
        pytest.param(["report", "--results", "nowhere"], "there is no such folder", id="no results"),
    ],
)
@without_gpu
def test_bad_input_is_one_line_and_status_2(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert any(part in error for part in message.split("|"))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_load_is_one_line_and_leaves_no_result(tmp_path):
    done = run("run", "quality", "--model", str(tmp_path / "nothing"), "--count", "1", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert last_line(done.stderr).startswith(
        f"The server of model {tmp_path / 'nothing'} ended with status 2: --model is"
    )
    assert not (tmp_path / "out").exists()


def test_help_of_a_case_shows_its_options():
    done = run("run", "quality", "--help")
    assert done.returncode == 0
    assert "--baselines" in done.stdout
    assert "--update-readme" in done.stdout
