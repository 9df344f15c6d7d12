"""The one place that writes `sparsity_p` into what the engine gets."""

import copy

from vllm.sampling_params import SamplingParams

from attention_backend import SPARSITY_P


def with_sparsity_p(sampling_params: SamplingParams, sparsity_p: float) -> SamplingParams:
    """Sampling parameters that ask the engine for this `sparsity_p`.

    Args:
        sampling_params: left as they are, because vLLM uses them for several requests and shares their
            `extra_args` with the HTTP body.
        sparsity_p: checked value; 1 leaves the key out, so that a dense request is stock vLLM's.
    """
    extra_args = {name: value for name, value in (sampling_params.extra_args or {}).items() if name != SPARSITY_P}
    if sparsity_p < 1.0:
        extra_args[SPARSITY_P] = sparsity_p
    sampling_params = copy.copy(sampling_params)
    sampling_params.extra_args = extra_args or None
    return sampling_params
