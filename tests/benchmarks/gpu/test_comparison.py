"""What is asked of the engines, and what becomes of their rows."""

import pytest

from benchmarks.cases import gpu_engine
from benchmarks.engine.engines import EngineRun
from benchmarks.gpu import comparison
from benchmarks.gpu.comparison import DENSE, SPARSE, STOCK, Point, Setting, compare, read_ms, worker_points
from benchmarks.gpu.dimensions import Dimensions

SETTING = Setting("qwen2_5_vl_7b", 1 << 30, 8, (1, 8), 0.25, steps=16, limit_s=100, seed=3)
POINTS = [Point("decode", 4096, 2, (STOCK, DENSE, SPARSE)), Point("prefill", 4096), Point("decode", 4096, 0)]
DECODED = {
    "step_ms": 10.0,
    "step_ms_p20": 9.0,
    "step_ms_p80": 11.0,
    "generated_tokens": 5.0,
    "kv_bytes": 1,
    "host_ms": 1,
}


def test_points_as_the_worker_reads_them():
    rows = worker_points(POINTS, (SPARSE, DENSE), SETTING)
    assert [(row["name"], row["mode"]) for row in rows] == [
        ("decode 4096 x 2", SPARSE),
        ("decode 4096 x 2", DENSE),
        ("prefill 4096", SPARSE),
        ("decode 4096 x full", SPARSE),
    ]
    assert [row["sparsity_p"] for row in rows] == [0.5, 1.0, 0.5, 0.5]
    # 2**30 bytes / (57,344 x 4096 x 0.25) = 18.3 requests, of which 8 may run.
    assert (rows[3]["batch"], rows[3]["expected_batch"]) == (0, 8)


def test_bound_by_hand():
    dims = Dimensions(num_layers=2, hidden_size=8, intermediate_size=16, num_heads=4, num_kv_heads=2, vocab_size=10)
    row = {"expected_ratio": 0.25, "context": 10, "batch": 4, "generated_tokens": 7.0}
    # 4 x (ceil(2.5) + 7) tokens of 32 bytes and 2608 bytes of weights at 1 MB/s.
    assert read_ms(row, dims, 1e6) == pytest.approx((40 * 32 / 1000, 2608 / 1000))


def fake_engines(monkeypatch, replies):
    specs = []

    def run_engine(spec, limit_s):
        specs.append((spec, limit_s))
        return replies[len(specs) - 1](spec["points"])

    monkeypatch.setattr(comparison, "run_engine", run_engine)
    return specs


def measured(points, **figures):
    rows = [{"kind": "bandwidth", "bytes_per_s": 4e12}, {"kind": "start", "seconds": 50.0, "v2_model_runner": True}]
    for point in points:
        own = (
            {"prefill_ms": 100.0, "batch": 1}
            if point["kind"] == "prefill"
            else DECODED | {"batch": point["batch"] or 6}
        )
        own |= figures if point["kind"] == "decode" else {}
        if "step_ms" in own:
            own["tokens_per_s"] = own["batch"] / own["step_ms"] * 1000
        rows.append(point | own | {"attention_ms": 1.0, "times_ms": [1.0], "kernels": {"flash": 1.0}})
    return EngineRun(rows, None)


def test_both_engines_get_the_same_prompts_and_memory(monkeypatch):
    specs = fake_engines(monkeypatch, [measured, lambda points: measured(points, step_ms=5.0)])
    summary, samples, machine = compare(POINTS, SETTING)
    (stock, stock_limit_s), (ours, ours_limit_s) = specs
    assert (stock["sparsity"], ours["sparsity"]) == (None, {"selection": "fixed", "fixed_token_ratio": 0.25})
    assert stock["engine"].pop("attention_backend") == "FLASH_ATTN"
    assert stock["engine"] == ours["engine"]
    assert (stock["seed"], ours["seed"]) == (3, 3)
    assert stock_limit_s == pytest.approx(50, abs=1)
    assert ours_limit_s == pytest.approx(100, abs=1)
    assert machine == {
        "copy_bandwidth": 4e12,
        "start_s_stock": 50.0,
        "start_s_sparse": 50.0,
        "v2_model_runner_stock": True,
        "v2_model_runner_sparse": True,
    }
    by_key = {(row["name"], row["mode"]): row for row in summary}
    assert by_key["decode 4096 x 2", SPARSE]["speedup"] == pytest.approx(2.0)
    assert by_key["decode 4096 x 2", STOCK]["speedup"] == 1.0
    assert by_key["prefill 4096", SPARSE]["speedup"] == 1.0
    row = by_key["decode 4096 x 2", STOCK]
    # 14.14 GB of weights and 2 x (4096 + 5) tokens of 57,344 bytes at 4 TB/s.
    assert row["bound_ms"] == pytest.approx((14.141e9 + 0.4703e9) / 4e9, rel=1e-4)
    assert row["share_of_bound"] == pytest.approx(row["bound_ms"] / 10.0)
    assert row["attention_share_of_bound"] == pytest.approx(0.4703 / 4, rel=1e-3)
    assert "kernels" not in row
    assert samples[0] == {"name": "decode 4096 x 2", "mode": STOCK, "times_ms": [1.0], "kernels": {"flash": 1.0}}


def test_an_engine_that_ends_early_keeps_what_it_measured(monkeypatch):
    def cut(points):
        return EngineRun(measured(points).rows[:3], "The engine was ended after its limit of 50 s.")

    fake_engines(monkeypatch, [measured, cut])
    summary, _, _ = compare(POINTS, SETTING)
    ours = [row for row in summary if row["mode"] != STOCK]
    assert ["error" in row for row in ours] == [False, True, True, True]
    assert all("limit of 50 s" in row["error"] for row in ours[1:])
    assert "speedup" in ours[0]


def test_an_engine_that_does_not_start_leaves_the_other_s_figures(monkeypatch):
    fake_engines(monkeypatch, [lambda points: EngineRun([], "The engine ended with status 1."), measured])
    summary, _, _ = compare(POINTS, SETTING)
    assert all("error" in row for row in summary if row["mode"] == STOCK)
    ours = [row for row in summary if row["mode"] != STOCK]
    assert all("step_ms" in row or "prefill_ms" in row for row in ours)
    assert not any("speedup" in row for row in ours)


def test_kv_cache_holds_the_largest_dense_point_on_one_h200():
    parser = gpu_engine.argparse.ArgumentParser()
    gpu_engine.add_arguments(parser)
    setting = gpu_engine.setting(parser.parse_args([]), gpu_engine.POINTS)
    dims = Dimensions.read("qwen2_5_vl_7b")
    assert setting.kv_cache_bytes >= 32 * 32_768 * dims.kv_bytes_per_token
    # Room for weights and the activations of the longest prompt.
    assert setting.kv_cache_bytes + dims.weight_bytes < 90e9
    assert all(point.context + gpu_engine.MAX_TOKENS <= comparison.MAX_MODEL_LEN for point in gpu_engine.POINTS)
