"""Every prefill kernel against its torch reference, at the dimensions that are served.

Each check yields (what, error, tolerance); it passes when error <= tolerance. Errors of floating-point results are
||out - reference|| / ||reference|| with the reference in float32; those of integer results are counts of wrong entries.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.attend import attend_selected
from attention_backend.ops.compact import compact_slots, plan_removal
from attention_backend.ops.estimate import estimate_importance
from attention_backend.ops.select import forced_tokens, select_tokens
from benchmarks.gpu.prompts import BLOCK_SIZE, PrefillStep

# float32 sums of products of bf16 numbers, which are exact: order of summation and exp2 are all that differ.
ESTIMATE_TOLERANCE = 1e-4
# Outputs are rounded to bf16, weights on their way to the second product too.
ATTEND_TOLERANCE = 8e-3
POISON = float("nan")


class Check(NamedTuple):
    """One comparison."""

    what: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def relative_error(out: torch.Tensor, reference: torch.Tensor) -> float:
    """||out - reference|| / ||reference||, NaN where `out` holds one."""
    reference = reference.float()
    return float((out.float() - reference).norm() / reference.norm())


def check_estimate(step: PrefillStep) -> Iterator[Check]:
    """Mass and score of every prompt; a second run gives the same bits."""
    # Kernels need triton, which machines that never run them may lack.
    from benchmarks.gpu import prefill_stages

    importance, again = prefill_stages.estimate(step), prefill_stages.estimate(step)
    for index, length in enumerate(step.lengths):
        tokens = step.tokens(index)
        positions = step.probes[index, : int(step.num_probes[index])].long()
        reference = estimate_importance(step.query[tokens][positions], step.key[tokens], positions, step.scale)
        for name, out, expected in zip(("mass", "score"), importance[:, tokens], reference, strict=True):
            yield Check(f"estimate {name}, {length} tokens", relative_error(out, expected), ESTIMATE_TOLERANCE)
        differing = int((importance[:, tokens] != again[:, tokens]).sum())
        yield Check(f"estimate repeats its bits, {length} tokens", differing, 0)


def check_select(step: PrefillStep, importance: torch.Tensor, fixed_token_ratio: float | None) -> Iterator[Check]:
    """Ranks and counts on given importances, entry by entry."""
    from benchmarks.gpu import prefill_stages

    rank, num_kept = prefill_stages.select(step, importance, fixed_token_ratio)
    rule = "sparsity_p" if fixed_token_ratio is None else f"ratio {fixed_token_ratio}"
    for index, (length, kept) in enumerate(
        zip(step.lengths, references(step, importance, fixed_token_ratio), strict=True)
    ):
        expected = torch.full((length,), -1, dtype=torch.int32, device=rank.device)
        expected[kept] = torch.arange(len(kept), dtype=torch.int32, device=rank.device)
        wrong = int((rank[step.tokens(index)] != expected).sum()) + int(num_kept[index] != len(kept))
        yield Check(f"select by {rule}, {length} tokens, keeps {len(kept)}", wrong, 0)


def references(step: PrefillStep, importance: torch.Tensor, fixed_token_ratio: float | None) -> list[torch.Tensor]:
    """The reference's kept set of every prompt."""
    kept = []
    for index, length in enumerate(step.lengths):
        mass, score = importance[:, step.tokens(index)]
        forced = forced_tokens(length, SparsityConfig(), importance.device)
        sparsity_p = float(step.batch.sparsity_p[index])
        kept.append(select_tokens(mass, score, sparsity_p, forced, fixed_token_ratio))
    return kept


def check_attend(step: PrefillStep, importance: torch.Tensor, selection: str) -> Iterator[Check]:
    """Attention outputs; those of other requests' tokens stay as they were."""
    from benchmarks.gpu import prefill_stages

    rank, num_kept = prefill_stages.select(step, importance, None)
    out = torch.full_like(step.query, POISON, memory_format=torch.contiguous_format)
    attend = prefill_stages.attend_keys_step if selection == "keys" else prefill_stages.attend_zipvl_step
    attend(step, rank, num_kept, out)
    is_ours = torch.zeros(len(out), dtype=torch.bool, device=out.device)
    for index, (length, kept) in enumerate(zip(step.lengths, references(step, importance, None), strict=True)):
        tokens = step.tokens(index)
        is_ours[tokens] = True
        inputs = (part[tokens].float() for part in (step.query, step.key, step.value))
        reference = attend_selected(*inputs, kept, length, step.scale, selection)
        yield Check(f"attend {selection}, {length} tokens", relative_error(out[tokens], reference), ATTEND_TOLERANCE)
    yield Check(f"attend {selection} leaves other tokens alone", int((~out[~is_ours].isnan()).sum()), 0)


def check_compact(step: PrefillStep, importance: torch.Tensor) -> Iterator[Check]:
    """Slots of every token of the step, and the removal noted at each first block."""
    from benchmarks.gpu import prefill_stages

    rank, num_kept = prefill_stages.select(step, importance, None)
    removals = step.removals()
    slots = prefill_stages.slots(step, rank, num_kept, removals)
    expected_slots = torch.full_like(slots, -1)
    expected_removals = torch.zeros_like(removals)
    for index, (length, kept) in enumerate(zip(step.lengths, references(step, importance, None), strict=True)):
        removal = plan_removal(length, len(kept), BLOCK_SIZE)
        row = step.block_table[index]
        expected_slots[step.tokens(index)][kept] = compact_slots(row, removal, len(kept), BLOCK_SIZE)
        expected_removals[int(row[0])] = torch.tensor(removal, dtype=torch.int32, device=row.device)
    yield Check("compact slots", int((slots != expected_slots).sum()), 0)
    yield Check("compact removals", int((removals != expected_removals).sum()), 0)
