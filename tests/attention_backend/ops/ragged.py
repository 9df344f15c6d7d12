"""Steps that hold sparse prompts with tokens of other requests before, between and behind them."""

from dataclasses import dataclass
from itertools import accumulate

import torch

from attention_backend.ops.prefill_batch import PrefillBatch

_DENSE_TOKENS_BEFORE = 3
_PADDING = 5


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sparse prompt of a step; `kept` are ascending positions, `start` its first token in the step."""

    num_prompt_tokens: int
    num_generated: int
    start: int
    kept: torch.Tensor

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_generated

    @property
    def tokens(self) -> slice:
        return slice(self.start, self.start + self.num_tokens)

    @property
    def stored(self) -> torch.Tensor:
        """Positions of kept prompt tokens and generated tokens."""
        return torch.cat([self.kept, torch.arange(self.num_prompt_tokens, self.num_tokens)])


@dataclass(frozen=True, slots=True)
class Step:
    """A step: its sparse prompts, the batch that describes them and what selection would have returned."""

    prompts: list[Prompt]
    batch: PrefillBatch
    rank: torch.Tensor
    num_kept: torch.Tensor

    @property
    def num_tokens(self) -> int:
        return self.rank.numel()

    @property
    def is_sparse(self) -> torch.Tensor:
        """Tokens that belong to a sparse prompt, [num_tokens], bool."""
        mask = torch.zeros(self.num_tokens, dtype=torch.bool)
        for prompt in self.prompts:
            mask[prompt.tokens] = True
        return mask


def make_step(sizes: list[tuple[int, int]], share: float = 0.4, kept: list[list[int]] | None = None) -> Step:
    """A step with a sparse prompt per (prompt tokens, generated tokens); the ranks of other tokens are garbage.

    Args:
        sizes: of the prompts, in the order of the step.
        share: probability that a prompt token is kept; the last one always is.
        kept: the kept positions instead, prompt by prompt.
    """
    generator = torch.Generator().manual_seed(sum(map(sum, sizes)))
    lengths = [prompt + generated + _DENSE_TOKENS_BEFORE for prompt, generated in sizes]
    starts = [end - length + _DENSE_TOKENS_BEFORE for end, length in zip(accumulate(lengths), lengths, strict=True)]
    rank = torch.full((sum(lengths) + _PADDING,), 2**30, dtype=torch.int32)
    prompts = []
    for index, ((num_prompt_tokens, num_generated), start) in enumerate(zip(sizes, starts, strict=True)):
        if kept is None:
            is_kept = torch.rand(num_prompt_tokens, generator=generator) < share
            is_kept[-1] = True
            positions = is_kept.nonzero().flatten()
        else:
            positions = torch.tensor(kept[index])
        prompt = Prompt(num_prompt_tokens, num_generated, start, positions)
        rank[prompt.tokens] = -1
        rank[start + prompt.stored] = torch.arange(prompt.stored.numel(), dtype=torch.int32)
        prompts.append(prompt)
    return Step(prompts, _describe(prompts), rank, torch.tensor([p.kept.numel() for p in prompts], dtype=torch.int32))


def _describe(prompts: list[Prompt]) -> PrefillBatch:
    def column(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32)

    return PrefillBatch(
        token_start=column([prompt.start for prompt in prompts]),
        num_tokens=column([prompt.num_tokens for prompt in prompts]),
        num_prompt_tokens=column([prompt.num_prompt_tokens for prompt in prompts]),
        # A dense request has the row before each.
        row=column([2 * index + 1 for index in range(len(prompts))]),
        sparsity_p=torch.full((len(prompts),), 0.9, dtype=torch.float64),
        max_num_tokens=max(prompt.num_tokens for prompt in prompts),
        max_prompt_tokens=max(prompt.num_prompt_tokens for prompt in prompts),
    )
