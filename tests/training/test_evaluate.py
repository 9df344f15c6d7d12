"""`python -m training.evaluate`, from the command line to the files it writes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from measurement.results import read
from tests.server.harness import environment_of_a_program
from training import evaluate

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sparsity-p", "1.5"], "sparsity_p is 1.5, but must be greater than 0 and at most 1"),
        (["--sparsity-p", "0"], "sparsity_p is 0.0"),
        (["--count", "0"], "argument --count 0: must be at least 1"),
        (["--engine-args", "[]"], "must be a JSON object"),
        (["--engine-args", "{"], "invalid loads value"),
        (["--grading", "soft"], "invalid choice: 'soft'"),
    ],
)
def test_mistakes_are_refused(arguments, says, capsys):
    with pytest.raises(SystemExit):
        evaluate.parse(["demo", *arguments])
    assert says in capsys.readouterr().err


def test_bundled_checkpoints_have_names(tmp_path, monkeypatch):
    assert evaluate.checkpoint("demo") == str(ROOT / "server" / "assets" / "demo")
    assert evaluate.checkpoint("Qwen/Qwen2.5-VL-3B-Instruct") == "Qwen/Qwen2.5-VL-3B-Instruct"
    # A folder of that name in the working directory comes first, as it does for the server.
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert evaluate.checkpoint("demo") == "demo"


def test_two_models_through_the_serving_engine(tmp_path):
    """The second model is a copy of the first, so that every figure must come out twice."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "server" / "assets" / "demo", copy)
    command = [sys.executable, "-m", "training.evaluate", str(copy), "--baseline", "demo"]
    command += ["--count", "6", "--seed", "5", "--sparsity-p", "1", "0.9", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, cwd=ROOT, env=environment_of_a_program(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    (path,) = (tmp_path / "out").glob("evaluation-*.json")
    assert path.with_suffix(".png").stat().st_size > 10_000
    result = read(path)
    assert [(row["model"], row["sparsity_p"]) for row in result.summary] == [
        ("demo", 1.0),
        ("demo", 0.9),
        (str(copy), 1.0),
        (str(copy), 0.9),
    ]
    dense, sparse, dense_again, sparse_again = ({**row, "model": ""} for row in result.summary)
    assert (dense_again, sparse_again) == (dense, sparse)
    # The questions that the bundled model answers on the HTTP benchmark too.
    assert (dense["accuracy"], dense["token_ratio"], dense["kv_ratio"]) == (1.0, 1.0, 1.0)
    assert 0 < sparse["token_ratio"] < 0.7
    assert len(result.samples) == 24
    assert f"| demo | 1 | {dense['accuracy']:.3f} |" in run.stdout
