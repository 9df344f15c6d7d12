"""Result files found and read; what is none is refused in one line."""

import json

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.stored import newest, read_result, rendered, section_of
from measurement.results import SCHEMA, Result, write


def result(case: str, gpu: str | None = None, **arguments: int) -> Result:
    return Result(case, arguments, {"gpu": gpu}, {}, [], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("not JSON", "a.json is no JSON", id="no JSON"),
        pytest.param("[1, 2]", "schema of a.json is None", id="a list"),
        pytest.param('{"model": "x"}', "schema of a.json is None", id="foreign"),
        pytest.param(
            json.dumps({"schema": SCHEMA, "case": "decode"}), "a.json lacks arguments, environment", id="torn"
        ),
        pytest.param(None, "cannot be read: No such file", id="missing"),
    ],
)
def test_foreign_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BenchmarkError, match=message) as refused:
        read_result(path)
    assert "\n" not in str(refused.value)


def test_rows_of_another_version_are_refused():
    old = Result("step_overhead", {}, {}, {}, [{"variant": "x"}], [])
    with pytest.raises(BenchmarkError, match=r"a result of step_overhead holds other rows .*KeyError"):
        rendered(old, lambda case: case.table)


@pytest.mark.parametrize(
    ("case", "gpu", "section"),
    [
        ("quality-keys", None, "quality-keys"),
        ("serve", "NVIDIA H200", "serve-cuda"),
        ("gpu_engine", "NVIDIA H200", "gpu_engine"),
        ("gpu_engine", None, None),
        ("decode-failed", None, None),
        ("harness", None, None),
    ],
)
def test_sections(case, gpu, section):
    assert section_of(result(case, gpu)) == section


def test_the_newest_result_of_every_section_is_found(tmp_path):
    for name, stored in (
        ("serve-20260102T000000Z", result("serve", count=2)),
        ("serve-20260101T000000Z", result("serve", count=1)),
        ("serve-20250101T000000Z", result("serve", "NVIDIA H200", count=3)),
        ("decode-failed-20260103T000000Z", result("decode-failed")),
    ):
        write(stored, tmp_path).rename(tmp_path / f"{name}.json")
    found = newest(tmp_path)
    assert {name: stored.arguments["count"] for name, stored in found.items()} == {"serve": 2, "serve-cuda": 3}
