"""The counters and histograms, by amounts worked by hand."""

import itertools

import pytest
from prometheus_client import REGISTRY

from server.metrics import SparsityMetrics

names = (f"test-{number}" for number in itertools.count())


@pytest.fixture
def model_name() -> str:
    return next(names)


def value(name: str, model_name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"model_name": model_name, **labels})


def test_a_sparse_request(model_name, make_report):
    SparsityMetrics(model_name).count_finished(make_report())
    assert value("winnow_requests_total", model_name, mode="sparse") == 1
    assert value("winnow_requests_total", model_name, mode="dense") == 0
    assert value("winnow_freed_tokens_total", model_name) == (100 - 30) + (100 - 50)
    assert value("winnow_freed_blocks_total", model_name) == 4
    assert (value("winnow_token_ratio_count", model_name), value("winnow_token_ratio_sum", model_name)) == (1, 0.4)
    assert (value("winnow_kv_ratio_count", model_name), value("winnow_kv_ratio_sum", model_name)) == (1, 0.5)


def test_a_dense_request_leaves_the_ratios_alone(model_name, make_report):
    SparsityMetrics(model_name).count_finished(make_report(sparsity_p=1.0, token_ratio=1.0, kv_ratio=1.0))
    assert value("winnow_requests_total", model_name, mode="dense") == 1
    assert value("winnow_token_ratio_count", model_name) == 0


def test_dropped_feedback(model_name):
    SparsityMetrics(model_name).count_dropped_feedback(3)
    assert value("winnow_feedback_dropped_total", model_name) == 3


def test_two_engines_in_one_process_share_the_families(model_name, make_report):
    for _ in range(2):
        SparsityMetrics(model_name).count_finished(make_report())
    assert value("winnow_requests_total", model_name, mode="sparse") == 2


def test_labels_are_bounded(model_name):
    SparsityMetrics(model_name)
    for family in REGISTRY.collect():
        if family.name.startswith("winnow_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert labels <= {"model_name", "mode"}, family.name
