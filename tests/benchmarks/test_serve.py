"""The serve case, apart from its two servers."""

from argparse import ArgumentParser, Namespace

import pytest

from benchmarks.cases import serve
from benchmarks.errors import BenchmarkError
from benchmarks.load.generator import Load, Measurement, Target
from benchmarks.load.points import UNITS, point
from benchmarks.questions import Question
from measurement.results import Result

from .load.streaming_server import streaming

QUESTIONS = [Question("image", "color", [{"type": "text", "text": "one"}], "red")]


def arguments(*argv: str) -> Namespace:
    parser = ArgumentParser()
    serve.add_arguments(parser)
    args = parser.parse_args(argv)
    args.device = "cpu"
    return args


def measurement(scale: float) -> Measurement:
    return Measurement(["a"] * 3, [scale, 2 * scale, 9 * scale], [scale] * 3, [scale], 100 / scale, 10, 5, 0.5, 0)


def targets(stock_url: str, our_url: str) -> dict[str, Target]:
    return {serve.BASELINE: Target(stock_url, "m", {}), "sparsity_p 1": Target(our_url, "m", {"sparsity_p": 1.0})}


def test_equal_answers_pass_and_bring_the_latency_of_stock_vllm_alone():
    with streaming(["a", "b"]) as stock, streaming(["a", "b"]) as ours:
        alone = serve.compare_answers(targets(stock.url, ours.url), QUESTIONS, 2)
    assert alone.texts == ["ab"]
    assert [("sparsity_p" in body) for body in stock.bodies] == [False, False]
    assert [body["sparsity_p"] for body in ours.bodies] == [1.0]


def test_other_answers_stop_the_case_before_a_time_is_taken():
    with (
        streaming(["a", "b"]) as stock,
        streaming(["a", "c"]) as ours,
        pytest.raises(BenchmarkError, match=r"differ from stock vLLM's for 1 of 1 questions.*'ac', not 'ab'"),
    ):
        serve.compare_answers(targets(stock.url, ours.url), QUESTIONS, 2)


def test_the_objective_is_a_multiple_of_the_median_unless_given():
    assert serve.objective(measurement(10.0), arguments()) == {"ttft": 100.0, "tpot": 50.0}
    given = arguments("--slo-scale", "2", "--slo-ttft-ms", "7")
    assert serve.objective(measurement(10.0), given) == {"ttft": 7.0, "tpot": 20.0}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--requests", "0"], "--requests is 0, but must be above 0"),
        (["--concurrency", "4", "-1"], r"--concurrency is \[4, -1\], but must be above 0"),
        (["--sparsity-p", "1.5"], r"--sparsity-p is \[1.5\], but must be above 0 and at most 1"),
        (["--output-tokens", "1"], "--output-tokens is 1, but time per further token needs at least 2"),
    ],
)
def test_bad_arguments_are_refused_before_a_server_starts(argv, message):
    with pytest.raises(BenchmarkError, match=message):
        serve.run(arguments(*argv))


def test_the_arguments_of_the_short_form_exist():
    assert set(serve.SHORT) <= set(vars(arguments()))


def test_a_model_that_does_not_load_is_one_line(tmp_path):
    with pytest.raises(BenchmarkError, match=r"^The server of model .* ended with status") as error:
        serve.run(arguments("--model", str(tmp_path), "--questions", "1"))
    assert "\n" not in str(error.value)


@pytest.fixture
def result() -> Result:
    rows = []
    for mode, scale, ratio in (("stock vLLM", 1.0, 1.0), ("sparsity_p 1", 1.0, 1.0), ("sparsity_p 0.975", 2.0, 0.5)):
        for concurrency in (1, 4):
            row = point(mode, Load("concurrency", concurrency), [measurement(scale * concurrency)])
            rows.append(row | {"accuracy": 0.9, "token_ratio": ratio, "kv_ratio": ratio})
    arguments_ = vars(arguments()) | {"slo_ttft_ms": 100.0, "slo_tpot_ms": 50.0, "rounds": 1, "kv_cache_mib": 20}
    return Result("serve", arguments_, {}, UNITS, rows, [])


def test_table_by_hand(result):
    lines = serve.table(result).splitlines()
    assert lines[2].startswith(
        "| 1 | stock vLLM | 2 / 7.6 / 8.86 | 1 / 1 / 1 | 1 / 1 / 1 | 100 (100 to 100) | 5 (5 to 5)"
    )
    assert "| sparsity_p 0.975 | 0.900 | 0.500 | 0.500 |" in lines
    assert "20 MiB of KV cache each" in lines[-1]


def test_figures_show_every_mode_and_its_front(result):
    pytest.importorskip("matplotlib")
    figures = serve.figures(result)
    assert set(figures) == {"pareto-tpot", "pareto-ttft", "goodput"}
    lines = {line.get_label(): line for line in figures["pareto-tpot"].axes[0].get_lines()}
    assert set(lines) == {"stock vLLM", "sparsity_p 1", "sparsity_p 0.975"}
    # Concurrency 4 is slower and brings less here, so one point is left.
    assert (list(lines["sparsity_p 0.975"].get_xdata()), list(lines["sparsity_p 0.975"].get_ydata())) == ([2.0], [50.0])
