"""`sparsity_p` and the report."""

from types import SimpleNamespace

import pytest

from attention_backend import InvalidSparsityP, SparsityReport, check_sparsity_p
from attention_backend.request import sparsity_p_of, token_ratio


@pytest.mark.parametrize("value", [1, 1.0, 0.975, 1e-9])
def test_numbers_in_range_pass(value):
    assert check_sparsity_p(value) == value


@pytest.mark.parametrize(
    "value", [0, -0.1, 1.0001, 2, float("nan"), float("inf"), float("-inf"), True, False, "0.9", [0.9], {}, None]
)
def test_everything_else_is_refused_with_rule_and_remedy(value):
    with pytest.raises(InvalidSparsityP, match=r"^sparsity_p is .*must be.*Send a number such as 0\.975"):
        check_sparsity_p(value)


def test_operator_bounds():
    assert check_sparsity_p(0.9, minimum=0.9, maximum=0.95) == 0.9
    for value in (0.89, 0.96):
        with pytest.raises(InvalidSparsityP, match=r"allows 0\.9 to 0\.95"):
            check_sparsity_p(value, minimum=0.9, maximum=0.95)


def test_absent_means_dense():
    assert sparsity_p_of(None) == 1.0
    assert sparsity_p_of(SimpleNamespace(extra_args=None)) == 1.0
    assert sparsity_p_of(SimpleNamespace(extra_args={"sparsity_p": None})) == 1.0
    assert sparsity_p_of(SimpleNamespace(extra_args={"sparsity_p": 0.5})) == 0.5


def test_token_ratio_by_hand():
    # Two layers keep 20 and 60 of 100: keys .4 on average; queries .4 (zipvl) or 1 (keys).
    assert token_ratio([20, 60], 100, "zipvl") == pytest.approx(0.4)
    assert token_ratio([20, 60], 100, "fixed") == pytest.approx(0.4)
    assert token_ratio([20, 60], 100, "keys") == pytest.approx(0.7)


def test_report_round_trip():
    report = SparsityReport(0.9, "zipvl", 0.5, 0.6, [3, 4], 10, 2, 1)
    assert SparsityReport.from_dict(report.to_dict()) == report
