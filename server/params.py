"""The one place that writes `sparsity_p` into what the engine gets."""

import copy

from vllm.sampling_params import SamplingParams

from attention_backend import RETURN_KEPT, SPARSITY_P


def with_sparsity_p(sampling_params: SamplingParams, sparsity_p: float) -> SamplingParams:
    """Sampling parameters that ask the engine for this `sparsity_p`.

    Args:
        sampling_params: left as they are, because vLLM uses them for several requests and shares their
            `extra_args` with the HTTP body. A client's wish for kept masks is left out: no response carries them.
        sparsity_p: checked value; 1 leaves the key out, so that a dense request is stock vLLM's.
    """
    ours = (SPARSITY_P, RETURN_KEPT)
    extra_args = {name: value for name, value in (sampling_params.extra_args or {}).items() if name not in ours}
    if sparsity_p < 1.0:
        extra_args[SPARSITY_P] = sparsity_p
    sampling_params = copy.copy(sampling_params)
    sampling_params.extra_args = extra_args or None
    return sampling_params
