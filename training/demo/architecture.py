"""The demo model's architecture: a true Qwen2.5-VL, about 0.9 million parameters, and its checkpoint folder."""

import json
from pathlib import Path

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from .geometry import CELL_SIZE, FRAMES_PER_SECOND, MERGE_SIZE, PATCH_SIZE, TEMPORAL_PATCH_SIZE

MIN_PIXELS = 4 * CELL_SIZE**2
MAX_PIXELS = 1280 * CELL_SIZE**2


def build_config(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    """The configuration for a tokenizer.

    `rope_theta` is 100, not 10**6: with heads of 32 the width section of M-RoPE would otherwise turn too slowly to tell
    columns apart. `tokens_per_second` 1 and 2 frames per second put successive temporal patches one position
    apart.
    """
    ids = tokenizer.convert_tokens_to_ids
    return Qwen2_5_VLConfig(
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": ids("<|im_end|>"),
            "pad_token_id": ids("<|endoftext|>"),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": PATCH_SIZE,
            "spatial_merge_size": MERGE_SIZE,
            "temporal_patch_size": TEMPORAL_PATCH_SIZE,
            "window_size": 112,
            "fullatt_block_indexes": [],
            "tokens_per_second": 1,
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A freshly initialised fp32 model."""
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(build_config(tokenizer))


def build_processor(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLProcessor:
    """Image, video and text processing that leaves the demo's pictures at their own size."""
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        video_processor=Qwen2VLVideoProcessor(size=dict(size), fps=FRAMES_PER_SECOND, cap_pixels_per_frame=False),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


def save_checkpoint(model: Qwen2_5_VLForConditionalGeneration, tokenizer: Qwen2Tokenizer, out: Path) -> None:
    """Write a complete Hugging Face folder, weights in bf16; the model given is left as it is."""
    weights = {name: tensor.detach().to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    copy = Qwen2_5_VLForConditionalGeneration(build_config(tokenizer)).to(torch.bfloat16)
    copy.load_state_dict(weights)
    copy.save_pretrained(out)
    build_processor(tokenizer).save_pretrained(out)
    _write_generation_config(tokenizer, out)
    for path in out.iterdir():
        path.chmod(0o644)


def _write_generation_config(tokenizer: Qwen2Tokenizer, out: Path) -> None:
    """Greedy by default; no `max_new_tokens`, which vLLM would take as a limit for every request.

    Written as JSON because transformers refuses to save `temperature` 0 without sampling, and vLLM reads only that.
    """
    config = {
        "do_sample": False,
        "temperature": 0.0,
        "eos_token_id": tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }
    (out / "generation_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
