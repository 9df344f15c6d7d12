"""A result file says what was measured, where, and reads back as it was."""

import json

import pytest

from measurement.environment import describe
from measurement.results import SCHEMA, Result, read, write


@pytest.fixture
def result() -> Result:
    return Result(
        case="accuracy",
        arguments={"seed": 3},
        environment=describe(model="demo"),
        units={"time": "ms"},
        summary=[{"name": 'quote " @row0@ and back\\slash', "time": 1.5}],
        samples=[{"times": [1, 2]}, {"times": []}],
    )


def test_written_result_reads_back_equal(result, tmp_path):
    assert read(write(result, tmp_path)) == result


def test_rows_stay_on_one_line(result, tmp_path):
    lines = write(result, tmp_path).read_text().splitlines()
    assert '    {"times": [1, 2]},' in lines


def test_environment_names_versions_and_machine(result):
    import torch

    assert result.environment["torch"] == torch.__version__
    assert {"commit", "cpu", "num_cores", "gpu", "python"} <= result.environment.keys()
    assert result.environment["model"] == "demo"


def test_other_schema_is_refused(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema": "winnow.benchmark/0"}))
    with pytest.raises(ValueError, match=f"'winnow.benchmark/0', but must be '{SCHEMA}'"):
        read(path)
