"""The scheduler case on a small setting: every variant decodes to its end, and figures relate as they claim."""

from argparse import ArgumentParser

import pytest

from benchmarks.cases import step_overhead


@pytest.fixture(scope="module")
def result():
    parser = ArgumentParser()
    step_overhead.add_arguments(parser)
    argv = ["--num-layers", "4", "--num-requests", "6", "--prompt-tokens", "160", "--steps", "40", "--rounds", "1"]
    return step_overhead.run(parser.parse_args(argv))


def test_every_variant_has_one_time_per_step(result):
    assert {sample["variant"]: len(sample["times"]) for sample in result.samples} == {
        variant.name: 40 for variant in step_overhead.VARIANTS
    }
    assert all(row["p20"] <= row["median"] <= row["p80"] for row in result.summary)


def test_ratio_is_to_the_baseline(result):
    rows = {row["variant"]: row for row in result.summary}
    baseline = rows[step_overhead.BASELINE]
    assert baseline["ratio"] == 1.0
    for row in result.summary:
        assert row["ratio"] == pytest.approx(row["median"] / baseline["median"])


def test_a_group_per_layer_costs_at_most_1_3_times_stock():
    """28 layers, 64 requests. The p20 of many steps leaves out what other processes do to a step."""
    parser = ArgumentParser()
    step_overhead.add_arguments(parser)
    result = step_overhead.run(parser.parse_args(["--steps", "128", "--rounds", "4"]))
    p20_ms = {row["variant"]: row["p20"] for row in result.summary}
    ratios = {name: p20 / p20_ms[step_overhead.BASELINE] for name, p20 in p20_ms.items()}
    assert {name: ratio for name, ratio in ratios.items() if ratio > 1.3} == {}
