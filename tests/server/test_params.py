"""Writing `sparsity_p` into the sampling parameters."""

from vllm.sampling_params import SamplingParams

from server.params import with_sparsity_p


def test_sparse_requests_carry_the_value_beside_other_extras():
    sampling_params = SamplingParams(max_tokens=7, extra_args={"other": 1})
    sparse = with_sparsity_p(sampling_params, 0.9)
    assert sparse.extra_args == {"other": 1, "sparsity_p": 0.9}
    assert sparse.max_tokens == 7


def test_the_given_parameters_stay_as_they_are():
    sampling_params = SamplingParams(extra_args={"other": 1})
    with_sparsity_p(sampling_params, 0.9)
    assert sampling_params.extra_args == {"other": 1}


def test_dense_requests_equal_those_of_stock_vllm():
    assert with_sparsity_p(SamplingParams(max_tokens=7), 1.0) == SamplingParams(max_tokens=7)
    assert with_sparsity_p(SamplingParams(extra_args={"sparsity_p": 0.5}), 1.0).extra_args is None


def test_kept_masks_cannot_be_asked_for_over_http():
    given = SamplingParams(extra_args={"other": 1, "winnow_return_kept": True})
    assert with_sparsity_p(given, 0.9).extra_args == {"other": 1, "sparsity_p": 0.9}
    assert with_sparsity_p(given, 1.0).extra_args == {"other": 1}
