"""The kept set of every sparse prompt of a step, one program per prompt (ZipVL eq. 6 to 8); the README explains it."""

import torch
import triton
import triton.language as tl

from attention_backend.ops.prefill_batch import PrefillBatch

# float32 numbers that are not negative order as their bits do, read as int32.
_INFINITY_BITS = tl.constexpr(0x7F800000)
_FORCED_BITS = tl.constexpr(0x7FFFFFFF)
# Up to this many tokens a smaller program is faster.
LONGEST_SHORT_PROMPT = 4096


@triton.jit
def _order_bits(value):
    """Bits in 0 .. infinity that order as the values do; anything else (a NaN) becomes the nearer end."""
    return tl.minimum(tl.maximum(value.to(tl.int32, bitcast=True), 0), _INFINITY_BITS)


@triton.jit
def _mass_from(mass_ptr, num_tokens, bits_1, bits_2, bits_3, BLOCK: tl.constexpr):
    """Sums of the masses at or above three thresholds, each above 0."""
    sum_1 = tl.zeros([BLOCK], tl.float64)
    sum_2 = tl.zeros([BLOCK], tl.float64)
    sum_3 = tl.zeros([BLOCK], tl.float64)
    for start in range(0, num_tokens, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        mass = tl.load(mass_ptr + offs, mask=offs < num_tokens, other=0.0)
        bits = _order_bits(mass)
        wide = mass.to(tl.float64)
        sum_1 += tl.where(bits >= bits_1, wide, 0.0)
        sum_2 += tl.where(bits >= bits_2, wide, 0.0)
        sum_3 += tl.where(bits >= bits_3, wide, 0.0)
    return tl.sum(sum_1), tl.sum(sum_2), tl.sum(sum_3)


@triton.jit
def _score_bits(score_ptr, offs, num_tokens, num_sink_tokens, num_recent_tokens):
    """Order of the tokens: forced ones in front of all others, -1 for places behind the prompt."""
    score = tl.load(score_ptr + offs, mask=offs < num_tokens, other=0.0)
    forced = (offs < num_sink_tokens) | (offs >= num_tokens - num_recent_tokens)
    bits = tl.where(forced, _FORCED_BITS, _order_bits(score))
    return tl.where(offs < num_tokens, bits, -1)


@triton.jit
def _count_from(score_ptr, num_tokens, num_sink_tokens, num_recent_tokens, bits_1, bits_2, bits_3, BLOCK: tl.constexpr):
    """Numbers of tokens at or above three thresholds."""
    count_1 = tl.zeros([BLOCK], tl.int32)
    count_2 = tl.zeros([BLOCK], tl.int32)
    count_3 = tl.zeros([BLOCK], tl.int32)
    for start in range(0, num_tokens, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        bits = _score_bits(score_ptr, offs, num_tokens, num_sink_tokens, num_recent_tokens)
        count_1 += (bits >= bits_1).to(tl.int32)
        count_2 += (bits >= bits_2).to(tl.int32)
        count_3 += (bits >= bits_3).to(tl.int32)
    return tl.sum(count_1), tl.sum(count_2), tl.sum(count_3)


@triton.jit
def _narrow(low, high, at_low, at_high, step, at_1, at_2, at_3, target):
    """The quarter of [low, high) at whose lower end at least `target` is reached, and at whose upper end it is not."""
    quarter = (at_1 >= target).to(tl.int32) + (at_2 >= target).to(tl.int32) + (at_3 >= target).to(tl.int32)
    new_low = tl.where(quarter == 0, low, low + quarter * step)
    new_high = tl.where(quarter == 3, high, tl.minimum(high, low + (quarter + 1) * step))
    new_at_low = tl.where(quarter == 0, at_low, tl.where(quarter == 1, at_1, tl.where(quarter == 2, at_2, at_3)))
    new_at_high = tl.where(quarter == 0, at_1, tl.where(quarter == 1, at_2, tl.where(quarter == 2, at_3, at_high)))
    return new_low, new_high, new_at_low, new_at_high


@triton.jit
def _num_columns(mass_ptr, num_tokens, sparsity_p, BLOCK: tl.constexpr):
    """Smallest number of columns whose sorted masses reach `sparsity_p` of their sum."""
    low = tl.full([], 0, tl.int32)
    high = tl.full([], _INFINITY_BITS + 1, tl.int32)
    total, _, _ = _mass_from(mass_ptr, num_tokens, low, high, high, BLOCK)
    target = sparsity_p * total
    mass_low = total
    mass_high = tl.full([], 0.0, tl.float64)
    value = low.to(tl.float32, bitcast=True).to(tl.float64)
    # Two masses of at least `value` would weigh more than 1.5 of it: then one column is left, the one that crosses.
    while (high - low > 1) & (mass_low - mass_high >= 1.5 * value):
        step = (high - low + 3) // 4
        at_1, at_2, at_3 = _mass_from(mass_ptr, num_tokens, low + step, low + 2 * step, low + 3 * step, BLOCK)
        low, high, mass_low, mass_high = _narrow(low, high, mass_low, mass_high, step, at_1, at_2, at_3, target)
        value = low.to(tl.float32, bitcast=True).to(tl.float64)

    num_from_low, num_from_high, _ = _count_from(mass_ptr, num_tokens, 0, 0, low, high, high, BLOCK)
    # Equal masses at the threshold: as many as it takes, found by bisection (a division would round).
    fewest = tl.full([], 1, tl.int32)
    most = tl.maximum(num_from_low - num_from_high, 1)
    while fewest < most:
        middle = (fewest + most) // 2
        is_enough = mass_high + middle.to(tl.float64) * value >= target
        most = tl.where(is_enough, middle, most)
        fewest = tl.where(is_enough, fewest, middle + 1)
    return num_from_high + fewest


@triton.jit(do_not_specialize=["num_step_tokens", "num_sink_tokens", "num_recent_tokens"])
def _select_kernel(
    importance_ptr,
    token_start_ptr,
    num_tokens_ptr,
    num_prompt_tokens_ptr,
    sparsity_p_ptr,
    rank_ptr,
    num_kept_ptr,
    num_step_tokens,
    num_sink_tokens,
    num_recent_tokens,
    FIXED_TOKEN_RATIO: tl.constexpr,
    BLOCK: tl.constexpr,
):
    prompt = tl.program_id(0)
    token_start = tl.load(token_start_ptr + prompt).to(tl.int64)
    num_tokens = tl.load(num_prompt_tokens_ptr + prompt)
    sparsity_p = tl.load(sparsity_p_ptr + prompt)
    mass_ptr = importance_ptr + token_start
    score_ptr = mass_ptr + num_step_tokens
    rank_ptr += token_start

    num_kept = _num_columns(mass_ptr, num_tokens, sparsity_p, BLOCK)
    if FIXED_TOKEN_RATIO is not None:
        fixed = tl.ceil(tl.full([], FIXED_TOKEN_RATIO, tl.float64) * num_tokens.to(tl.float64)).to(tl.int32)
        # The mass search is paid for as in the other mode: a compiler that cannot know its sign must keep it.
        num_kept = tl.maximum(tl.minimum(num_kept, 0), fixed)
    num_kept = tl.where(sparsity_p >= 1.0, num_tokens, num_kept)
    num_forced = tl.minimum(num_sink_tokens + num_recent_tokens, num_tokens)
    num_kept = tl.minimum(tl.maximum(num_kept, num_forced), num_tokens)
    tl.store(num_kept_ptr + prompt, num_kept)

    low = tl.full([], 0, tl.int32)
    high = tl.full([], _INFINITY_BITS + 1, tl.int32)
    num_low = num_tokens
    num_high = num_forced
    while (high - low > 1) & (num_low != num_kept):
        step = (high - low + 3) // 4
        at_1, at_2, at_3 = _count_from(
            score_ptr,
            num_tokens,
            num_sink_tokens,
            num_recent_tokens,
            low + step,
            low + 2 * step,
            low + 3 * step,
            BLOCK,
        )
        low, high, num_low, num_high = _narrow(low, high, num_low, num_high, step, at_1, at_2, at_3, num_kept)

    # Tokens from `high` on are kept; those in [low, high) fill the rest, lower positions first.
    num_ties_kept = num_kept - num_high
    num_above = tl.full([], 0, tl.int32)
    num_ties = tl.full([], 0, tl.int32)
    for start in range(0, num_tokens, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        bits = _score_bits(score_ptr, offs, num_tokens, num_sink_tokens, num_recent_tokens)
        above = (bits >= high).to(tl.int32)
        tie = ((bits >= low) & (bits < high)).to(tl.int32)
        # Two counts in one scan: a block holds fewer than 2^15 tokens.
        pair = above + (tie << 16)
        before = tl.cumsum(pair, 0) - pair
        above_before = num_above + (before & 0xFFFF)
        ties_before = num_ties + (before >> 16)
        kept = (above == 1) | ((tie == 1) & (ties_before < num_ties_kept))
        rank = tl.where(kept, above_before + tl.minimum(ties_before, num_ties_kept), -1)
        tl.store(rank_ptr + offs, rank, mask=offs < num_tokens)
        num_above += tl.sum(above)
        num_ties += tl.sum(tie)

    num_generated = tl.load(num_tokens_ptr + prompt) - num_tokens
    for start in range(0, num_generated, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        tl.store(rank_ptr + num_tokens + offs, num_kept + offs, mask=offs < num_generated)


def select_tokens_varlen(
    importance: torch.Tensor,
    batch: PrefillBatch,
    num_sink_tokens: int,
    num_recent_tokens: int,
    fixed_token_ratio: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the kept set T of every prompt, by the rule of `select_tokens`.

    Args:
        importance: mass and score of the prompt tokens, [2, num_step_tokens], float32, contiguous.
        batch: the sparse prompts.
        num_sink_tokens: first tokens of a prompt that are always kept.
        num_recent_tokens: last prompt tokens that are always kept.
        fixed_token_ratio: share of the tokens to keep, instead of the share of the mass.

    Returns:
        rank: index of each kept prompt token within T in ascending order of position, -1 for a dropped one; generated
            tokens follow behind the k kept ones. [num_step_tokens], int32; written for the batch's tokens only.
        num_kept: k of each prompt, [num_prompts], int32.

    Source: ZipVL eq. 6 (k) and eq. 8 (T).
    """
    num_step_tokens = importance.shape[1]
    rank = torch.empty(num_step_tokens, dtype=torch.int32, device=importance.device)
    num_kept = torch.empty(batch.num_prompts, dtype=torch.int32, device=importance.device)
    is_short = batch.max_prompt_tokens <= LONGEST_SHORT_PROMPT
    _select_kernel[(batch.num_prompts,)](
        importance,
        batch.token_start,
        batch.num_tokens,
        batch.num_prompt_tokens,
        batch.sparsity_p,
        rank,
        num_kept,
        num_step_tokens,
        num_sink_tokens,
        num_recent_tokens,
        FIXED_TOKEN_RATIO=fixed_token_ratio,
        BLOCK=1024 if is_short else 4096,
        num_warps=8 if is_short else 16,
    )
    return rank, num_kept
