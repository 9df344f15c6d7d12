"""The dense model as teacher of the sparse one: divergence of whole next-token distributions. Ours, not the papers'.

GRPO estimates its KL term from the sampled token alone. The sum over the vocabulary has no sampling noise (arXiv
2504.10637), and its direction here, from the dense model to the sparse one, is that of distillation: at every
position of a rollout the dense model says what it would have gone on with.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def last_hidden_states(model) -> Iterator[list[torch.Tensor]]:
    """The text model's last hidden states of every forward pass inside, [B, num_tokens, hidden_size], with gradient.

    Args:
        model: a vision-language model of transformers, not wrapped.
    """
    caught: list[torch.Tensor] = []
    hook = model.get_decoder().register_forward_hook(lambda _, __, output: caught.append(output.last_hidden_state))
    try:
        yield caught
    finally:
        hook.remove()


def distillation_loss(teacher_logits: torch.Tensor, logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student), a mean over the tokens of a row and then over rows.

    Args:
        teacher_logits, logits: [B, num_tokens, vocab_size].
        mask: tokens that count, [B, num_tokens].

    Returns:
        A number in nats.
    """
    teacher, student = teacher_logits.float().log_softmax(-1), logits.float().log_softmax(-1)
    # [B, num_tokens]
    divergence = (teacher.exp() * (teacher - student)).sum(-1)
    return ((divergence * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()
