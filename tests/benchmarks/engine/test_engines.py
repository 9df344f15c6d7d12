"""Engine processes: limits, errors, and one real engine on the demo model."""

import stat
import sys

import pytest

from benchmarks.engine.engines import EngineProcess, run_engine, specification, telling_line
from benchmarks.errors import BenchmarkError
from benchmarks.gpu.answers import DEMO_MODEL

ENGINE = {
    "model": str(DEMO_MODEL),
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "max_model_len": 2048,
    "max_num_batched_tokens": 2048,
    "max_num_seqs": 16,
    # Four layers; 512 prompt tokens and a window of 32 take 18 blocks in each.
    "num_gpu_blocks_override": 4 * 18 * 4 + 1,
    # Without it vLLM wants most of the machine to be free.
    "kv_cache_memory_bytes": 128 << 20,
    "limit_mm_per_prompt": {"image": 1, "video": 0},
    "enable_prefix_caching": False,
    "disable_log_stats": True,
}
FIXED = {"selection": "fixed", "fixed_token_ratio": 0.25}
PICTURES = {"scenes": "picture 8x8", "num_questions": 3}


def decode(batch, sparsity_p=0.5):
    return {"kind": "decode", "context": 512, "batch": batch, "steps": 4, "sparsity_p": sparsity_p}


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Replace the worker by a shell script that gets `-m MODULE SPEC ROWS`."""

    def install(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))

    return install


def test_rows_written_before_the_limit_are_kept(worker):
    worker("""echo '{"kind": "start"}' >> "$4"; echo loading; exec sleep 60""")
    run = run_engine(specification({}, []), 1.0)
    assert run.rows == [{"kind": "start"}]
    assert run.error == "The engine was ended after its limit of 1 s. loading\n"


def test_a_failure_comes_with_the_end_of_the_log(worker):
    worker("echo out of memory >&2; exit 7")
    assert run_engine(specification({}, []), 30.0) == ([], "The engine ended with status 7. out of memory\n")


def test_the_baseline_loads_no_plugin(worker):
    worker("""echo "{\\"plugins\\": \\"${VLLM_PLUGINS-unset}\\"}" >> "$4" """)
    assert run_engine(specification({}, []), 30.0).rows == [{"plugins": ""}]
    assert run_engine(specification({}, [], FIXED), 30.0).rows == [{"plugins": "unset"}]


ECHO = r"""echo '{"kind": "start"}' >> "$4"; while read -r point; do printf '%s\n' "$point" >> "$4"; done"""


def test_points_are_measured_one_by_one(worker):
    worker(ECHO)
    with EngineProcess("echo", specification({}, [])) as engine:
        engine.wait_until_ready()
        assert engine.measure({"kind": "load", "n": 1}) == {"kind": "load", "n": 1}
        assert engine.measure({"kind": "load", "n": 2}) == {"kind": "load", "n": 2}


def test_a_point_that_fails_is_one_line_and_the_next_one_is_measured(worker):
    worker(ECHO)
    with EngineProcess("stock vLLM", specification({}, [])) as engine:
        with pytest.raises(BenchmarkError, match=r"^stock vLLM cannot measure load: ValueError: no room$"):
            engine.measure({"kind": "load", "error": "ValueError:\n no room"})
        assert engine.measure({"kind": "check"}) == {"kind": "check"}


def test_an_engine_that_does_not_start_says_why_in_one_line(worker):
    worker("""echo "INFO loading"; echo "  File x, line 3" >&2; echo "ValueError: no such model" >&2; exit 1""")
    with (
        EngineProcess("stock vLLM", specification({}, [])) as engine,
        pytest.raises(BenchmarkError, match=r"^stock vLLM ended with status 1: ValueError: no such model$"),
    ):
        engine.measure({"kind": "load"})


@pytest.mark.parametrize(
    ("log", "line"),
    [
        pytest.param("a\nb\n\n", "b", id="no error"),
        pytest.param("", "it said nothing.", id="nothing"),
        pytest.param("x.OSError: first\nRuntimeError: second\n  at exit\n", "RuntimeError: second", id="last error"),
        pytest.param(
            "pydantic.ValidationError: 1 error\n  Value error, no config.json [type=value_error, input=...]\n",
            "Value error, no config.json",
            id="pydantic",
        ),
        pytest.param("[rank0]: KeyError: 'x'\nErrors: none\n", "KeyError: 'x'", id="rank"),
    ],
)
def test_the_line_that_says_most(log, line):
    assert telling_line(log) == line


def test_nothing_starts_when_no_time_is_left():
    assert run_engine(specification({}, []), 0.0) == ([], "The engine was not started: no time was left.")


def test_a_real_engine_measures_every_kind_of_point():
    points = [
        decode(batch=2),
        decode(batch=0),
        decode(batch=0, sparsity_p=1.0),
        {"kind": "prefill", "context": 512, "repeats": 2, "profile": False, "sparsity_p": 0.5},
        # 40 dense requests of 17 blocks do not fit: this point fails, and the next one is measured all the same.
        decode(batch=40, sparsity_p=1.0),
        {"kind": "answers", "sparsity_p": 0.9},
        {"kind": "check", "sparsity_p": 0.9, **PICTURES, "count": 2, "max_tokens": 4},
        {"kind": "load", "sparsity_p": 0.9, **PICTURES, "requests": 40, "max_tokens": 8},
    ]
    run = run_engine(specification(ENGINE, points, FIXED), 200.0)
    assert run.error is None
    start, two, full, dense, prefill, failed, answered, checked, loaded = run.rows
    assert start["kind"] == "start"
    # float32: 32 tokens x 2 heads x 32 numbers x (key + value) in a block; 128 of 512 tokens stay, 4 blocks.
    assert two["kv_bytes"] == 2 * 4 * 4 * 16_384
    assert len(two["times_ms"]) == 4
    assert two["tokens_per_s"] == pytest.approx(2 / two["step_ms"] * 1000)
    assert two["attention_ms"] is None
    assert 0 < two["host_ms"] <= two["step_ms"] * 1.5
    # Four dense requests fit; each sparse one leaves a room for the next, up to the last prompt's full row.
    assert dense["batch"] == 4
    assert 8 <= full["batch"] <= 16
    assert prefill["prefill_ms"] > 0
    assert "too small for this point" in failed["error"]
    assert answered["token_ratios"] == pytest.approx([0.25] * 3, abs=0.02)
    assert len(answered["token_ids"][1]) == 32
    assert checked["held_blocks"] == checked["reported_blocks"]
    assert [len(tokens) for tokens in checked["token_ids"]] == [4, 4]
    # 40 requests of 8 tokens on 16 seats: the cache is never full, but others wait for a seat.
    assert loaded["peak_running"] == 16
    assert loaded["tokens_per_s"] == pytest.approx(40 * 8 / loaded["seconds"])
    assert loaded["token_ratio"] == pytest.approx(0.25, abs=0.02)
    assert 0 < loaded["mean_kv_bytes"] < loaded["peak_kv_bytes"]
    assert 0 <= loaded["accuracy"] <= 1
