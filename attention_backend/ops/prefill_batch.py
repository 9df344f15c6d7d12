"""What the kernels of one sparse prefill step share: which tokens of the step belong to sparse prompts."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class PrefillBatch:
    """The sparse prompts of one step, as device tensors; n is their number.

    The step's own tensors (query, key, value, slots) hold tokens of other requests too. Per-token results are
    indexed by the step's token index, `token_start` + position.

    Attributes:
        token_start: first token of each prompt in the step, [n], int32.
        num_tokens: its tokens in the step: the prompt, then the generated tokens that a preempted request
            computes again. [n], int32.
        num_prompt_tokens: L, [n], int32.
        row: its row in the block table, [n], int32.
        sparsity_p: share of the attention mass to keep, [n], float64.
        max_num_tokens: largest of `num_tokens`, known on the host.
        max_prompt_tokens: largest of `num_prompt_tokens`, known on the host.
    """

    token_start: torch.Tensor
    num_tokens: torch.Tensor
    num_prompt_tokens: torch.Tensor
    row: torch.Tensor
    sparsity_p: torch.Tensor
    max_num_tokens: int
    max_prompt_tokens: int

    @property
    def num_prompts(self) -> int:
        return self.token_start.shape[0]
