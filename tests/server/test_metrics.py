"""The counters and histograms, by amounts worked by hand."""

import itertools

import pytest
from prometheus_client import REGISTRY

from server.metrics import SparsityMetrics

names = (f"test-{number}" for number in itertools.count())


@pytest.fixture
def model_name() -> str:
    return next(names)


@pytest.fixture
def metrics(model_name) -> SparsityMetrics:
    """Of a server with 1,001 blocks of 16 tokens for two layers."""
    return SparsityMetrics(model_name, num_cache_blocks=1001, num_layers=2, block_size=16)


def value(name: str, model_name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"model_name": model_name, **labels})


def test_a_sparse_request(metrics, model_name, make_report):
    metrics.count_finished(make_report(), decode_s=2.5)
    assert value("winnow_requests_total", model_name, mode="sparse") == 1
    assert value("winnow_requests_total", model_name, mode="dense") == 0
    assert value("winnow_freed_tokens_total", model_name) == (100 - 30) + (100 - 50)
    assert value("winnow_prompt_blocks_total", model_name) == 2 * 7
    assert value("winnow_freed_blocks_total", model_name) == 4
    assert value("winnow_freed_block_seconds_total", model_name) == 4 * 2.5
    assert (value("winnow_token_ratio_count", model_name), value("winnow_token_ratio_sum", model_name)) == (1, 0.4)
    assert (value("winnow_kv_ratio_count", model_name), value("winnow_kv_ratio_sum", model_name)) == (1, 0.5)


def test_a_dense_request_leaves_the_ratios_and_blocks_alone(metrics, model_name, make_report):
    metrics.count_finished(make_report(sparsity_p=1.0, token_ratio=1.0, kv_ratio=1.0), decode_s=2.5)
    assert value("winnow_requests_total", model_name, mode="dense") == 1
    assert value("winnow_token_ratio_count", model_name) == 0
    assert value("winnow_prompt_blocks_total", model_name) == 0


def test_the_size_of_the_cache(metrics, model_name):
    assert value("winnow_kv_cache_blocks", model_name) == 1001
    assert value("winnow_kv_cache_dense_tokens", model_name) == 500 * 16


def test_dropped_feedback(metrics, model_name):
    metrics.count_dropped_feedback(3)
    assert value("winnow_feedback_dropped_total", model_name) == 3


def test_two_engines_in_one_process_share_the_families(metrics, model_name, make_report):
    for engine in (metrics, SparsityMetrics(model_name, num_cache_blocks=2, num_layers=2, block_size=16)):
        engine.count_finished(make_report(), decode_s=0)
    assert value("winnow_requests_total", model_name, mode="sparse") == 2


def test_labels_are_bounded(metrics):
    for family in REGISTRY.collect():
        if family.name.startswith("winnow_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert labels <= {"model_name", "mode", "reason"}, family.name
