"""`sparsity_p` and the report."""

from types import SimpleNamespace

import numpy as np
import pytest

from attention_backend import InvalidSparsityP, SparsityReport, check_sparsity_p
from attention_backend.request import pack_mask, returns_kept, sparsity_p_of, token_ratio, unpack_mask


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


@pytest.mark.parametrize("num_prompt_tokens", [1, 7, 8, 63])
def test_a_packed_mask_comes_back(num_prompt_tokens):
    mask = np.random.default_rng(num_prompt_tokens).random((3, num_prompt_tokens)) < 0.5
    assert np.array_equal(unpack_mask(pack_mask(mask), 3, num_prompt_tokens), mask)


def test_bits_lie_in_reading_order():
    assert pack_mask(np.array([[True, False, False], [False, True, True]])) == bytes([0b10001100])


def test_masks_are_returned_to_those_who_ask():
    asked = [None, {}, {"winnow_return_kept": False}, {"winnow_return_kept": True}]
    given = [returns_kept(SimpleNamespace(extra_args=extra_args)) for extra_args in asked]
    assert given == [False, False, False, True]
    assert not returns_kept(None)
