"""Writes scores that know nothing of attention over those that selection would rank by, for a step's sparse prompts."""

import torch
import triton
import triton.language as tl

from attention_backend.config import Ranking
from attention_backend.ops.prefill_batch import PrefillBatch

_TOKENS_PER_PROGRAM = 1024


@triton.jit
def _mixed(bits):
    """`_mixed` of the reference, in uint32, whose products wrap by themselves."""
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
    return bits ^ (bits >> 16)


@triton.jit(do_not_specialize=["num_step_tokens", "layer_index"])
def _baseline_score_kernel(
    importance_ptr,
    token_start_ptr,
    num_prompt_tokens_ptr,
    num_step_tokens,
    layer_index,
    IS_RANDOM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    prompt = tl.program_id(1)
    num_tokens = tl.load(num_prompt_tokens_ptr + prompt)
    # [BLOCK]
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    score = position.to(tl.float32)
    if IS_RANDOM:
        seed = tl.zeros([BLOCK], tl.uint32) + (num_tokens * 1009 + layer_index).to(tl.uint32)
        mixed = _mixed(position.to(tl.uint32) ^ _mixed(seed))
        score = (mixed >> 8).to(tl.float32)
    token_start = tl.load(token_start_ptr + prompt).to(tl.int64)
    tl.store(importance_ptr + num_step_tokens + token_start + position, score, mask=position < num_tokens)


def write_baseline_scores(importance: torch.Tensor, batch: PrefillBatch, layer_index: int, ranking: Ranking) -> None:
    """Replace the scores of every sparse prompt by `baseline_score`; the masses stay.

    Args:
        importance: mass and score of the prompt tokens, [2, num_step_tokens], float32, contiguous; the score is
            changed in place, for the batch's prompt tokens only.
        batch: the sparse prompts.
        layer_index: index of the decoder layer.
        ranking: "random" or "recent".
    """
    grid = triton.cdiv(batch.max_prompt_tokens, _TOKENS_PER_PROGRAM), batch.num_prompts
    _baseline_score_kernel[grid](
        importance,
        batch.token_start,
        batch.num_prompt_tokens,
        importance.shape[1],
        layer_index,
        IS_RANDOM=ranking == "random",
        BLOCK=_TOKENS_PER_PROGRAM,
        num_warps=4,
    )
