"""Batches for training: many questions about one scene share its visual tokens in one sequence.

A sequence is [prefix with all media] [question 1, answer 1] [question 2, answer 2] ...; a block mask lets each
question see the prefix and itself only, and all questions start at the same position, so each is exactly the prompt
that the chat template makes of it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from transformers import Qwen2Tokenizer

from .media import cell_labels, pixel_patches
from .questions import Question
from .scenes import SceneSize
from .streams import Example

QUESTION_END = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_END = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes of one size, ready for the model; B sequences of padded length L."""

    input_ids: torch.Tensor  # [B, L] int64
    position_ids: torch.Tensor  # [3, B, L] int64: M-RoPE's time, row and column
    attention_mask: torch.Tensor  # [B, 1, L, L] bool, True where a query may look
    pixel_values: torch.Tensor  # [num_patches, patch_dim] float32
    grid: int
    cell_labels: torch.Tensor  # [num_visual_tokens, 3] int64: glyph, colour, picture or temporal patch
    predict_at: torch.Tensor  # [num_targets] int64: flat index of the token before each answer token
    targets: torch.Tensor  # [num_targets] int64
    question_index: torch.Tensor  # [num_targets] int64: which question a target belongs to
    questions: list[Question]


def media_prompt(size: SceneSize) -> str:
    """The chat template's text for the media of a scene, with one pad token for each visual token."""
    if size.kind == "video":
        return f"<|vision_start|>{'<|video_pad|>' * size.num_visual_tokens}<|vision_end|>"
    pads = "<|image_pad|>" * size.grid**2
    numbered = size.num_pictures > 1
    return "".join(
        (f"Picture {index + 1}: " if numbered else "") + f"<|vision_start|>{pads}<|vision_end|>"
        for index in range(size.num_pictures)
    )


@lru_cache(maxsize=4096)
def _encode(tokenizer: Qwen2Tokenizer, text: str) -> list[int]:
    """Token ids of a text; the task has few different sentences, and asking the tokenizer again is slow."""
    return tokenizer.encode(text)


def _prefix(tokenizer: Qwen2Tokenizer, size: SceneSize, system: str | None) -> tuple[list[int], np.ndarray]:
    """Token ids `[prefix]` and M-RoPE positions `[3, prefix]` of everything before the question."""
    text = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    ids = _encode(tokenizer, text + "<|im_start|>user\n" + media_prompt(size))
    pads = tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])
    positions, position, index = np.zeros((3, len(ids)), dtype=np.int64), 0, 0
    cells = np.indices((size.num_steps, size.grid, size.grid)).reshape(3, -1)
    while index < len(ids):
        if ids[index] in pads:
            positions[:, index : index + cells.shape[1]] = position + cells
            index, position = index + cells.shape[1], position + max(size.grid, size.num_steps)
        else:
            positions[:, index] = position
            index, position = index + 1, position + 1
    return ids, positions


def pack(tokenizer: Qwen2Tokenizer, examples: list[Example], systems: list[str | None] | None = None) -> Batch:
    """Pack examples of one size into a batch.

    Args:
        tokenizer: The demo tokenizer.
        examples: Scenes of equal size, each with its questions.
        systems: A system prompt (or none) for each example; default: none.
    """
    size = examples[0].scene.size
    systems = systems or [None] * len(examples)
    rows = [_pack_row(tokenizer, ex, system) for ex, system in zip(examples, systems, strict=True)]
    length = max(len(row[0]) for row in rows)
    input_ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    position_ids = torch.zeros(3, len(rows), length, dtype=torch.int64)
    block_ids = torch.full((len(rows), length), -1)
    predict_at, targets, question_index, questions = [], [], [], []
    for index, (ids, positions, blocks, answers) in enumerate(rows):
        input_ids[index, : len(ids)] = torch.tensor(ids)
        position_ids[:, index, : len(ids)] = torch.from_numpy(positions)
        block_ids[index, : len(ids)] = torch.tensor(blocks)
        for question, (start, answer_ids) in zip(examples[index].questions, answers, strict=True):
            predict_at += [index * length + start - 1 + offset for offset in range(len(answer_ids))]
            targets += answer_ids
            question_index += [len(questions)] * len(answer_ids)
            questions.append(question)
    return Batch(
        input_ids=input_ids,
        position_ids=position_ids,
        attention_mask=_block_mask(block_ids),
        pixel_values=torch.cat([pixel_patches(ex.frames, size.kind == "video") for ex in examples]),
        grid=size.grid,
        cell_labels=torch.from_numpy(np.concatenate([cell_labels(ex.scene) for ex in examples])),
        predict_at=torch.tensor(predict_at),
        targets=torch.tensor(targets),
        question_index=torch.tensor(question_index),
        questions=questions,
    )


def _pack_row(tokenizer: Qwen2Tokenizer, example: Example, system: str | None):
    """Ids, positions `[3, len]`, block of each token (0 is the prefix) and (start, ids) of each answer."""
    ids, prefix_positions = _prefix(tokenizer, example.scene.size, system)
    positions, blocks, answers = [prefix_positions], [0] * len(ids), []
    start = int(prefix_positions[0, -1]) + 1
    for block, question in enumerate(example.questions, start=1):
        question_ids = _encode(tokenizer, question.text + QUESTION_END)
        answer_ids = _encode(tokenizer, question.answer + ANSWER_END)
        answers.append((len(ids) + len(question_ids), answer_ids))
        new = question_ids + answer_ids
        ids = ids + new
        blocks += [block] * len(new)
        positions.append(np.broadcast_to(start + np.arange(len(new)), (3, len(new))))
    return ids, np.concatenate(positions, axis=1), blocks, answers


def _block_mask(block_ids: torch.Tensor) -> torch.Tensor:
    """`[B, 1, L, L]`: causal, within the own block or to the prefix; padding (-1) sees itself only to stay finite."""
    queries, keys = block_ids[:, :, None], block_ids[:, None, :]
    length = block_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    allowed = causal & ((keys == 0) | (keys == queries)) & (keys >= 0)
    return (allowed | torch.eye(length, dtype=torch.bool)).unsqueeze(1)
