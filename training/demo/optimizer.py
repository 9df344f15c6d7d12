"""Optimisers and learning-rate schedule: Muon for the matrices inside the blocks, AdamW for everything else.

Source: Muon, K. Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/), as in `torch.optim.Muon`.
"""

from collections.abc import Iterable

import torch

WARMUP_STEPS = 100
DECAY_SHARE = 0.6
"""The last part of training over which the learning rate falls linearly to zero."""


class DemoOptimizer:
    """Two optimisers that step together under one schedule."""

    def __init__(
        self, named_parameters: Iterable[tuple[str, torch.nn.Parameter]], learning_rate: float, num_steps: int
    ):
        matrices, others = [], []
        for name, parameter in named_parameters:
            is_block_matrix = parameter.ndim == 2 and (".layers." in name or ".blocks." in name or ".merger." in name)
            (matrices if is_block_matrix else others).append(parameter)
        self._parameters = matrices + others
        self._optimizers = [
            torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._learning_rate = learning_rate
        self._num_steps = num_steps

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, constant, then linear decay to zero."""
        decay_steps = DECAY_SHARE * self._num_steps
        factor = min(1.0, (step + 1) / WARMUP_STEPS, (self._num_steps - step) / decay_steps)
        return self._learning_rate * factor

    def step(self, step: int) -> None:
        """Clip the gradients, update the weights and clear the gradients."""
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate_at(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
