"""Targets and the document, from JSON files made here."""

import shutil

import pytest

from benchmarks import report
from benchmarks.gpu.failure import failure
from benchmarks.gpu.targets import TARGETS, gpu_targets
from benchmarks.papers import harness_results
from benchmarks.registry import RESULTS_DIR
from benchmarks.stored import newest
from benchmarks.targets import NOT_MEASURED
from measurement.results import Result, write

GPU = {"gpu": "NVIDIA H200", "driver": "580.1", "torch": "2.11.0", "commit": "abc", "copy_bandwidth": 4.3e12}


def row(name, mode, **figures):
    kind = name.split()[0]
    key = "prefill_ms" if kind == "prefill" else "step_ms"
    figures = {key: 10.0, f"{key}_p20": 9.0, f"{key}_p80": 11.0, "attention_ms": 5.0} | figures
    return {"name": name, "mode": mode, "kind": kind, "batch": 32, "context": 32768} | figures


def result(case, summary, samples=(), **environment):
    return Result(case, {}, GPU | environment, {}, summary, list(samples))


@pytest.fixture
def engine():
    step, many = "decode 32768 x 32", "decode 512 x 64"
    kernels = {"flash::FlashAttn|Fwd": 5.0, "gemm": 1.0}
    return result(
        "gpu_engine",
        [
            row(step, "stock", kv_bytes=100e9, bound_ms=8.0, speedup=1.0, share_of_bound=0.8),
            row(step, "dense", kv_bytes=100e9, bound_ms=8.0, speedup=0.99),
            row(step, "sparse", kv_bytes=26e9, bound_ms=3.2, speedup=2.25, attention_ms=1.75),
            row("prefill 32768", "stock", speedup=1.0),
            row("prefill 32768", "sparse", speedup=1.2),
            row(many, "stock", host_ms=1.0),
            row(many, "sparse", host_ms=1.5),
            {"name": "decode 65536 x 8", "mode": "stock", "kind": "decode", "error": "left out: no | time\nleft"},
        ],
        [{"name": step, "mode": "stock", "times_ms": [1.0], "kernels": kernels}],
    )


@pytest.fixture
def prefill():
    shares = {"dense attention": 1.0, "estimate": 0.03, "select": 0.02, "attend": 0.1, "compact": 0.01}
    rows = [
        {"context": context, "stage": stage, "median": 2 * share, "p20": share, "p80": 3 * share}
        | {"share_of_dense_attention": share if context == 32768 else 9.0}
        for context in (4096, 32768)
        for stage, share in shares.items()
    ]
    return result("gpu_prefill", rows)


def test_targets_by_hand(engine, prefill):
    figures = [
        line.split(" | ")[2:] for line in gpu_targets({"gpu_engine": engine, "gpu_prefill": prefill}).splitlines()[2:]
    ]
    assert figures == [
        ["1.010", "reached |"],
        ["0.260", "reached |"],
        ["0.350", "**missed** |"],
        ["2.250 (bound from counted bytes: 2.50)", "reached |"],
        ["0.900", "reached |"],
        [NOT_MEASURED, "- |"],
        ["1.200", "**missed** |"],
        ["0.060", "reached |"],
        ["0.500 ms", "reached |"],
    ]


def test_nothing_is_printed_that_was_not_measured():
    lines = gpu_targets({}).splitlines()[2:]
    assert len(lines) == len(TARGETS)
    assert all(f"| {NOT_MEASURED} | - |" in line for line in lines)


def test_a_point_that_failed_counts_as_not_measured(engine):
    engine.summary[2] = engine.summary[2] | {"error": "out of memory"}
    assert gpu_targets({"gpu_engine": engine}).count(NOT_MEASURED) == 6


def test_tables_show_figures_kernels_and_reasons(engine):
    content = report.sections({"gpu_engine": engine})["gpu_engine"].text
    assert (
        "| decode 32768 x 32 | stock | 32 | 10.00 (9.00 to 11.00) | 1.00 | 8.00 | 0.80 | 5.00 | - | 100.00 | - |"
        in content
    )
    assert "| decode 65536 x 8 | stock | left out: no / time left | - |" in content
    assert "| `flash::FlashAttn/Fwd` | 5.000 |" in content
    assert "NVIDIA H200, driver 580.1; torch 2.11.0; commit abc." in content
    assert "moves 4.30 TB/s" in content


def test_wrong_kernels_spoil_the_figures(engine):
    checks = [
        {"model": "7b", "what": "x", "error": 1.0, "tolerance": 0.1, "passed": passed} for passed in (True, False)
    ]
    content = report.sections({"gpu_engine": engine, "gpu_kernels": result("gpu_kernels", checks)})
    assert "**1 checks of kernel correctness failed" in content["targets"].text
    assert content["gpu_kernels"].text.count("**FAIL**") == 1


def test_newest_gpu_result_wins_and_failures_hide_nothing(engine, tmp_path, monkeypatch):
    older = write(engine, tmp_path)
    older.rename(tmp_path / "gpu_engine-20200101T000000Z.json")
    newer = result("gpu_engine", engine.summary, commit="new")
    write(newer, tmp_path)
    write(failure("gpu_engine", 124, "log"), tmp_path)
    write(result("gpu_capacity", [], gpu=None), tmp_path)
    assert newest(tmp_path) == {"gpu_engine": newer}


def test_a_failure_says_why():
    assert failure("gpu_engine", 124, "x" * 9000).summary[0]["error"] == "gpu_engine ended after its time limit"
    found = failure("gpu_engine", 1, "x" * 9000)
    assert found.case == "gpu_engine-failed"
    assert found.summary == [{"error": "gpu_engine ended with status 1", "log": "x" * 4000}]


def test_the_document_holds_what_the_stored_results_say(tmp_path):
    """No figure in it was typed by hand, and none is out of date."""
    copy = tmp_path / "performance.md"
    shutil.copy(report.DOCUMENT, copy)
    found = report.sections(newest(RESULTS_DIR), harness_results(RESULTS_DIR))
    report.write_document(copy, found)
    assert copy.read_text() == report.DOCUMENT.read_text()
    pictures = {name for section in found.values() for name in section.pictures}
    assert {path.name for path in (report.DOCUMENT.parent / report.PICTURES).iterdir()} == pictures
