"""The CPU cases on a real pair of engines, with small prompts; and their tables and figures."""

from argparse import ArgumentParser
from contextlib import contextmanager

import pytest

from benchmarks.cases import capacity, decode, prefill
from benchmarks.cpu.engines import Pair, engine_arguments, pair
from benchmarks.cpu.models import Model
from benchmarks.engine.scenes import max_prompt_tokens
from benchmarks.errors import BenchmarkError

SCENES = "picture 16x16"
# 304 prompt tokens at most and 8 generated ones.
HELD, MAX_TOKENS = 2, 8


@pytest.fixture(scope="module")
def engines():
    """A KV cache that holds two whole requests."""
    model = Model.find("demo")
    kv_bytes = model.kv_bytes(HELD, max_prompt_tokens(SCENES) + MAX_TOKENS)
    with pair(model, engine_arguments(model, kv_bytes, max_model_len=512, max_num_seqs=32), seed=5) as engines:
        yield engines


@pytest.fixture
def run(engines, monkeypatch):
    """Run a case on these engines."""

    @contextmanager
    def running(*args):
        yield engines

    def run_case(case, *argv):
        monkeypatch.setattr(case, "pair", running)
        parser = ArgumentParser()
        case.add_arguments(parser)
        return case.run(parser.parse_args(["--models", "demo", *argv]))

    return run_case


def test_capacity(run, monkeypatch):
    # A few steps: both engines are in the middle of their requests again and again.
    monkeypatch.setattr(capacity, "SLICE_S", 0.02)
    argv = ["--scenes", SCENES, "--baselines", "--sparsity-p", "1", "0.6", "--requests", "12", "--questions", "3"]
    argv += ["--max-tokens", str(MAX_TOKENS), "--rounds", "2"]
    result = run(capacity, *argv)
    stock, dense, sparse = result.summary
    assert [(row["engine"], row["sparsity_p"]) for row in result.summary] == [
        ("stock vLLM", None),
        ("Winnow", 1.0),
        ("Winnow", 0.6),
    ]
    assert (stock["peak_running"], dense["running_vs_stock"], dense["full_cache_bytes_vs_stock"]) == (HELD, 1.0, 1.0)
    assert (stock["kv_ratio"], dense["kv_ratio"]) == (None, 1.0)
    assert stock["accuracy"] == dense["accuracy"]
    assert sparse["kv_ratio"] < 0.6
    assert sparse["peak_running"] > HELD
    ratio = sparse["peak_running"] / HELD
    assert sparse["full_cache_bytes_vs_stock"] == pytest.approx(
        sparse["full_cache_running_vs_stock"] * sparse["kv_bytes_per_request_vs_stock"]
    )
    # The whole run counts prompts, so it cannot be faster than its decode steps.
    assert all(row["tokens_per_s"] < row["full_cache_tokens_per_s"] for row in (stock, dense))
    # A run of stock vLLM beside each of ours.
    of_samples = [(sample["engine"], sample["sparsity_p"]) for sample in result.samples]
    assert of_samples == [("stock vLLM", None)] * 4 + [("Winnow", 1.0)] * 2 + [("Winnow", 0.6)] * 2
    table = capacity.table(result).splitlines()
    assert table[2].startswith(f"| demo, {SCENES} | stock vLLM | - | 2 | - | - |")
    assert table[4].startswith(f"| demo, {SCENES} | Winnow | 0.6 | {sparse['peak_running']:.0f} | {ratio:.2f} |")
    drawn = capacity.figures(result)
    assert {"requests-picture-16x16", "kv-bytes-picture-16x16", "whole-run-picture-16x16"} <= set(drawn)
    lines = {line.get_label(): line for line in drawn["requests-picture-16x16"].axes[0].lines}
    assert list(lines["Winnow, demo"].get_ydata()) == [sparse["peak_running"], dense["peak_running"]]
    assert list(lines["stock vLLM, demo"].get_ydata()) == [HELD, HELD]


def test_decode(run):
    argv = ["--contexts", "picture 8x8", "--batches", "1", "2", "--steps", "6", "--rounds", "2", "--sparsity-p", "0.6"]
    result = run(decode, *argv)
    assert [(row["regime"], row["engine"], row["batch"]) for row in result.summary] == [
        ("batch 1", "stock vLLM", 1),
        ("batch 1", "Winnow", 1),
        ("batch 2", "stock vLLM", 2),
        ("batch 2", "Winnow", 2),
    ]
    assert {row["context"] for row in result.summary} == {80}
    by_engine = {row["engine"]: row for row in result.summary[2:]}
    assert by_engine["Winnow"]["kv_bytes"] < by_engine["stock vLLM"]["kv_bytes"]
    times = [sample["times_ms"] for sample in result.samples if sample["regime"] == "batch 2"]
    assert [len(of_turn) for of_turn in times] == [6] * 5
    for row in result.summary:
        assert row["step_ms_p20"] <= row["step_ms"] <= row["step_ms_p80"]
    assert decode.table(result).splitlines()[3].startswith("| demo | 80 | batch 1 | Winnow | 0.6 | 1 |")
    assert set(decode.figures(result)) == {"time-batch-1", "kv-bytes-batch-1", "time-batch-2", "kv-bytes-batch-2"}


def test_decode_fills_the_cache_with_long_prompts_only():
    assert [decode._can_fill(name) for name in ("picture 16x16", "picture 32x32", "4 pictures 32x32")] == [
        False,
        True,
        True,
    ]


def test_prefill(run):
    argv = ["--tokens", "64", "--contexts", "picture 8x8", "--repeats", "2", "--rounds", "1", "--sparsity-p", "0.6"]
    result = run(prefill, *argv)
    stages = {row["stage"]: row for row in result.summary if row["part"] == "stage"}
    assert stages["dense attention"]["share_of_dense_attention"] == 1.0
    assert stages["attend"]["share_of_dense_attention"] == pytest.approx(
        stages["attend"]["stage_ms"] / stages["dense attention"]["stage_ms"]
    )
    stock, ours = (row for row in result.summary if row["part"] == "first token")
    assert (stock["engine"], ours["engine"], ours["sparsity_p"], ours["context"]) == ("stock vLLM", "Winnow", 0.6, 80)
    assert ours["first_token_ms_p20"] <= ours["first_token_ms"] <= ours["first_token_ms_p80"]
    assert "| demo | 80 | Winnow | 0.6 |" in prefill.table(result)
    assert set(prefill.figures(result)) == {"stages", "first-token"}


def test_a_platform_without_a_baseline_says_why(run, engines, monkeypatch):
    class Refusing:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def measure(self, point):
            raise BenchmarkError("stock vLLM with fp8 KV cache cannot measure load: no | AVX-512")

    monkeypatch.setattr(capacity, "stock_engine", lambda *args: Refusing())
    argv = [
        "--scenes",
        SCENES,
        "--baselines",
        "fp8 KV cache",
        "video pruning",
        "--sparsity-p",
        "0.6",
        "--requests",
        "3",
    ]
    # Video pruning has no say in pictures: it is not even tried.
    monkeypatch.setitem(capacity.BASELINES, "fp8 KV cache", ({"kv_cache_dtype": "fp8"}, (SCENES,)))
    result = run(capacity, *argv, "--questions", "3", "--max-tokens", "2", "--rounds", "1")
    refused = [row for row in result.summary if "error" in row]
    assert [row["engine"] for row in refused] == ["stock vLLM, fp8 KV cache"]
    assert refused[0]["error"].startswith("not available on this platform: stock vLLM with fp8 KV cache cannot measure")
    assert capacity.table(result).splitlines()[-1].startswith(f"- stock vLLM, fp8 KV cache, {SCENES}: not available")


@pytest.mark.parametrize(
    ("case", "argv", "message"),
    [
        pytest.param(capacity, ["--requests", "0"], "--requests is 0, but must be at least 1", id="requests"),
        pytest.param(decode, ["--batches", "1", "-3"], r"--batches is \[1, -3\], but must be at least 1", id="batches"),
        pytest.param(prefill, ["--token-ratio", "1.5"], r"--token-ratio is 1\.5, but must be in", id="token ratio"),
        pytest.param(capacity, ["--models", "nothing"], "model is 'nothing', but must be one of", id="model"),
        pytest.param(decode, ["--sparsity-p", "0"], "--sparsity-p: sparsity_p is 0", id="sparsity_p"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(case, argv, message):
    parser = ArgumentParser()
    case.add_arguments(parser)
    with pytest.raises(BenchmarkError, match=message):
        case.run(parser.parse_args(argv))


def test_the_pair_are_two_engines(engines):
    assert isinstance(engines, Pair)
    assert engines.stock.name != engines.ours.name
