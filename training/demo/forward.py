"""The demo model's forward pass over packed batches: the same numbers as transformers' own, without its loops.

All demo grids are multiples of the vision window (4 x 4 cells), so the windows are one batch of equal sequences instead
of one attention call each, and the answers' logits are computed only where an answer is predicted.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_position_ids

from .geometry import MERGE_SIZE
from .packing import Batch

WINDOW_CELLS = 4
"""Cells on one side of a vision window: 112 pixels."""

_PATCHES_PER_CELL = MERGE_SIZE**2
_PATCHES_PER_WINDOW = WINDOW_CELLS**2 * _PATCHES_PER_CELL


def _window_attention(attention: torch.nn.Module, states: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]):
    """Full attention inside each window; `states` is `[num_windows, patches, hidden]`."""
    num_windows, patches, hidden = states.shape
    qkv = attention.qkv(states).view(num_windows, patches, 3, attention.num_heads, -1)
    query, key, value = qkv.unbind(2)
    query, key = apply_rotary_pos_emb_vision(query, key, *rope)
    # [num_windows, heads, patches, head_size]
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    out = F.scaled_dot_product_attention(query, key.to(value.dtype), value, scale=attention.scaling)
    return attention.proj(out.transpose(1, 2).reshape(num_windows, patches, hidden))


def visual_embeddings(model: Qwen2_5_VLForConditionalGeneration, pixel_values: torch.Tensor, grid: int) -> torch.Tensor:
    """The vision tower on square grids.

    Args:
        model: The demo model.
        pixel_values: `[num_patches, patch_dim]`, any number of pictures or temporal patches of one grid size.
        grid: Cells on one side; a multiple of 4.

    Returns:
        `[num_visual_tokens, hidden]` in the order of the prompt.
    """
    visual = model.model.visual
    windows = grid // WINDOW_CELLS
    embed = visual.patch_embed.proj.weight.flatten(1)
    states = F.linear(pixel_values, embed)
    # [planes, windows down, cells, windows across, cells, patches of a cell, hidden]
    layout = (-1, windows, WINDOW_CELLS, windows, WINDOW_CELLS, _PATCHES_PER_CELL, states.shape[-1])
    states = states.view(layout).transpose(2, 3).reshape(-1, _PATCHES_PER_WINDOW, states.shape[-1])
    side = WINDOW_CELLS * MERGE_SIZE
    # Rotary attention depends on differences only, so every window may use the positions of the first one.
    positions = get_vision_position_ids(torch.tensor([[1, side, side]]), MERGE_SIZE)
    rope = visual.rotary_pos_emb(states, positions)
    for block in visual.blocks:
        states = states + _window_attention(block.attn, block.norm1(states), rope)
        states = states + block.mlp(block.norm2(states))
    merged = visual.merger(states)
    layout = (-1, windows, windows, WINDOW_CELLS, WINDOW_CELLS, merged.shape[-1])
    return merged.view(layout).transpose(2, 3).reshape(-1, merged.shape[-1])


class Outputs(NamedTuple):
    """What a packed forward pass gives."""

    logits: torch.Tensor  # [num_targets, vocab]: where an answer token is predicted
    visual: torch.Tensor  # [num_visual_tokens, hidden]: out of the vision tower
    halfway: torch.Tensor  # [num_visual_tokens, hidden]: the visual tokens after half of the language model's layers


def packed_forward(model: Qwen2_5_VLForConditionalGeneration, batch: Batch) -> Outputs:
    """Run the model on a packed batch."""
    visual = visual_embeddings(model, batch.pixel_values, batch.grid)
    embeds = model.get_input_embeddings()(batch.input_ids)
    config = model.config
    pads = (batch.input_ids == config.image_token_id) | (batch.input_ids == config.video_token_id)
    embeds = embeds.masked_scatter(pads.unsqueeze(-1), visual.to(embeds.dtype))
    output = model.model.language_model(
        inputs_embeds=embeds,
        position_ids=batch.position_ids,
        attention_mask={"full_attention": batch.attention_mask},
        use_cache=False,
        output_hidden_states=True,
    )
    logits = model.lm_head(output.last_hidden_state.flatten(0, 1)[batch.predict_at])
    return Outputs(logits, visual, output.hidden_states[config.text_config.num_hidden_layers // 2][pads])


def exact_matches(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """`[num_questions]` bool: greedy decoding gives exactly the answer (every token right, the end token included)."""
    wrong = logits.argmax(-1) != batch.targets
    misses = torch.zeros(len(batch.questions)).index_add_(0, batch.question_index, wrong.float())
    return misses == 0
