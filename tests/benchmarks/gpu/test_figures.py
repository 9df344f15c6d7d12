"""What the figures of the GPU comparisons show, from rows made here."""

from benchmarks.cases import gpu_capacity, gpu_engine, gpu_prefill
from measurement.results import Result


def result(case: str, *rows: dict) -> Result:
    return Result(case, {}, {}, {}, list(rows), [])


def decode(context: int, mode: str, step_ms: float, batch: int = 8) -> dict:
    times = {"step_ms": step_ms, "step_ms_p20": step_ms - 1, "step_ms_p80": step_ms + 1}
    return {"name": "decode", "kind": "decode", "mode": mode, "context": context, "batch": batch, **times}


def lines(figure) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in figure.axes[0].lines}


def test_decode_runs_along_the_context_and_leaves_failed_points_out():
    figures = gpu_engine.figures(
        result(
            "gpu_engine",
            decode(32768, "stock", 9.0),
            decode(4096, "stock", 5.0),
            decode(32768, "sparse", 4.0),
            decode(4096, "sparse", 3.0) | {"error": "out of memory"},
            # One context alone makes no line.
            decode(512, "stock", 2.0, batch=64),
        )
    )
    assert list(figures) == ["decode-8"]
    assert lines(figures["decode-8"]) == {
        "stock vLLM": [(4096, 5.0), (32768, 9.0)],
        "fixed token ratio": [(32768, 4.0)],
    }


def test_prefill_and_full_cache():
    prefill = {"name": "prefill 4096", "kind": "prefill", "mode": "dense", "context": 4096, "prefill_ms": 7.0}
    assert lines(gpu_engine.figures(result("gpu_engine", prefill))["prefill"]) == {"sparsity_p = 1": [(4096, 7.0)]}
    full = [
        {"kind": "decode", "mode": mode, "context": 4096, "batch": batch, "tokens_per_s": batch * 10.0}
        for mode, batch in (("stock", 3), ("sparse", 11))
    ]
    figures = gpu_capacity.figures(result("gpu_capacity", *full))
    assert lines(figures["requests"]) == {"stock vLLM": [(4096, 3)], "fixed token ratio": [(4096, 11)]}
    assert lines(figures["throughput"])["fixed token ratio"] == [(4096, 110.0)]


def test_stages():
    rows = [
        {"context": context, "stage": stage, "median": context * share, "p20": 1.0, "p80": 2.0}
        for context in (10, 100)
        for stage, share in (("dense attention", 2.0), ("select", 0.5))
    ]
    figure = gpu_prefill.figures(result("gpu_prefill", *rows))["stages"]
    assert lines(figure) == {"dense attention": [(10, 20.0), (100, 200.0)], "select": [(10, 5.0), (100, 50.0)]}
