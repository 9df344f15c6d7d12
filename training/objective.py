"""The objective of Sparsity Forcing (arXiv 2504.18579) as functions, and two differentiable terms of our own.

The papers' reward is `r = r_accuracy + C (1 - token_ratio)`, normalised in the group of rollouts of one prompt. For a
fixed prompt and `sparsity_p` the token ratio is a deterministic function of the weights, so the policy gradient of that
reward holds no derivative of the ratio. The terms at the end supply one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

SCHEDULES = ("grid", "uniform")
TERMS: dict[str, tuple[str, ...]] = {
    "none": (),
    "mask": ("mask",),
    "pathwise": ("pathwise",),
    "both": ("mask", "pathwise"),
}
"""Choice of the differentiable term -> its parts."""


def rollout_sparsity_p(
    schedule: str, low: float, high: float, num_generations: int, rows: range, generator: torch.Generator | None = None
) -> list[float]:
    """`sparsity_p` of each rollout.

    Args:
        schedule: "grid" gives the rollouts of a group evenly spaced values (the papers' experiments: 0.94 to 0.975
            by 0.005 for 8 rollouts); "uniform" draws each one anew (their text: from 0 to 1).
        low: smallest value.
        high: largest value.
        num_generations: rollouts of a group, N.
        rows: numbers of the rollouts in the whole batch, over all ranks; row i is number i % N of its group.
        generator: source of uniform draws; None is torch's global one, which checkpoints restore.

    Returns:
        One value for each row, in (0, 1].
    """
    if schedule == "grid":
        step = (high - low) / max(num_generations - 1, 1)
        return [high - step * (row % num_generations) for row in rows]
    drawn = low + (high - low) * torch.rand(len(rows), generator=generator, dtype=torch.float64)
    # 0 would ask for nothing at all.
    return drawn.clamp(min=1e-6).tolist()


def collapse_guard(efficiency: torch.Tensor, correct: torch.Tensor, num_generations: int) -> torch.Tensor:
    """The factor C of the papers' later version: no efficiency reward where no rollout of the group is correct.

    Without it training can collapse to empty answers. The first version has C = 1 everywhere.

    Args:
        efficiency: 1 - token_ratio of each rollout, groups in a row, [num_groups * N].
        correct: whether its answer is right, like `efficiency`, bool.
        num_generations: N.

    Returns:
        Like `efficiency`.
    """
    return efficiency * (group_mean(correct.float(), num_generations) > 0)


def group_mean(values: torch.Tensor, num_generations: int) -> torch.Tensor:
    """The mean of each group, for each of its rollouts. [num_groups * N]"""
    return values.view(-1, num_generations).mean(dim=1).repeat_interleave(num_generations)


def ease(value: torch.Tensor, target: float, width: float) -> torch.Tensor:
    """1 where a value is `width` or more above the target, 0 at and below it, linear in between."""
    return ((value - target) / width).clamp(0.0, 1.0)


def log_kept_mass(mass: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Logarithm of the share of attention mass that lies in the kept set: the set treated as an action.

    Args:
        mass: a_j with gradient, [num_tokens].
        kept: positions of T, [k], a constant.

    Returns:
        A number; weighted by an advantage it is the mask-level term.
    """
    return (mass[kept].sum() / mass.sum()).log()


def pathwise_token_ratio(mass: torch.Tensor, sparsity_p: float) -> torch.Tensor:
    """A number whose gradient is that of the token ratio of one layer.

    k solves "the k largest masses sum to p", taken as continuous: moving the mass F of these columns up by dF lets
    dF / a_(k) of them go, where a_(k) is the smallest. So d token_ratio = - d F / (L a_(k)) with the set held fixed.

    Args:
        mass: a_j with gradient, [num_tokens].
        sparsity_p: the threshold p.

    Returns:
        k / L, with that gradient.
    """
    share = mass / mass.sum()
    ranked, order = share.detach().sort(descending=True)
    num_kept = min(int(torch.searchsorted(ranked.double().cumsum(0), sparsity_p)) + 1, len(mass))
    inside = share[order[:num_kept]].sum()
    gradient_only = (inside.detach() - inside) / (len(mass) * ranked[num_kept - 1].clamp(min=1e-12))
    return num_kept / len(mass) + gradient_only


@dataclass(slots=True)
class SparsityTerm:
    """The differentiable term of one batch, added layer by layer.

    A value that leaves a layer sideways is lost under reentrant gradient checkpointing. So the term rides on the
    layer's attention output: it changes nothing forward, and backward it adds its own gradient.

    Attributes:
        coefficients: "mask" or "pathwise" or both -> what each row's term is multiplied by in the loss, [B].
        num_layers: the term is a mean over this many layers.
    """

    coefficients: Mapping[str, Sequence[float]]
    num_layers: int
    _values: dict[int, float] = field(default_factory=dict)
    _loss_gradient: list[torch.Tensor] = field(default_factory=list)

    def of_row(self, row: int, mass: torch.Tensor, kept: torch.Tensor, sparsity_p: float) -> torch.Tensor:
        """One row's share of the loss in one layer."""
        total = mass.new_zeros(())
        for kind, coefficients in self.coefficients.items():
            value = log_kept_mass(mass, kept) if kind == "mask" else pathwise_token_ratio(mass, sparsity_p)
            total = total + value * (coefficients[row] / self.num_layers)
        return total

    def attach(self, output: torch.Tensor, layer_index: int, penalties: list[torch.Tensor]) -> torch.Tensor:
        """The layer's attention output, carrying the gradient of its rows' terms."""
        penalty = torch.stack(penalties).sum()
        self._values[layer_index] = float(penalty.detach())
        return _CarryGradient.apply(output, penalty, self._loss_gradient)

    def join(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss with the term's value; the term's gradient follows whatever scales the loss afterwards."""
        joined = loss + sum(self._values.values())
        if joined.requires_grad:
            joined.register_hook(self._loss_gradient.append)
        return joined


class _CarryGradient(torch.autograd.Function):
    """Identity on the first argument; backward, the second one gets the gradient that the loss itself has."""

    @staticmethod
    def forward(ctx, output, penalty, loss_gradient):
        ctx.loss_gradient, ctx.penalty_dtype = loss_gradient, penalty.dtype
        return output.view_as(output)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, ctx.loss_gradient[-1].to(ctx.penalty_dtype), None
