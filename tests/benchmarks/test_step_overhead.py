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
