"""What each row of a batch asks of vLLM: its `sparsity_p`, and its pictures and videos as vLLM takes them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from transformers import ProcessorMixin
from transformers.image_utils import load_image

from attention_backend import RETURN_KEPT, SPARSITY_P

from .row_media import prompt_key


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """What a row asks of the engine beside its token ids.

    TRL hands it on in the place of the row's pictures, also to the other ranks of a tensor-parallel group.

    Attributes:
        sparsity_p: of this rollout.
        is_greedy: no sampling, as in evaluation.
        media: vLLM's `multi_modal_data`.
        placeholders: token ids that stand for media.
    """

    sparsity_p: float
    is_greedy: bool
    media: dict[str, list]
    placeholders: tuple[int, ...]

    def prompt(self, token_ids: list[int]) -> dict[str, Any]:
        """As vLLM takes it: with one placeholder for each picture or video, which vLLM expands itself."""
        before = [None, *token_ids[:-1]]
        short = [
            token
            for token, last in zip(token_ids, before, strict=True)
            if token != last or token not in self.placeholders
        ]
        return {"prompt_token_ids": short} | ({"multi_modal_data": self.media} if self.media else {})

    def sampling_params(self, common: Any) -> Any:
        """vLLM's `SamplingParams` of this row, from those of all rows."""
        params = copy.copy(common)
        params.extra_args = (common.extra_args or {}) | {SPARSITY_P: self.sparsity_p, RETURN_KEPT: True}
        if self.is_greedy:
            params.temperature, params.top_p, params.top_k, params.min_p = 0.0, 1.0, 0, 0.0
        return params


def with_frames(processor: ProcessorMixin, prompts: Sequence[list[dict]]) -> list[list[dict]]:
    """The prompts with every video as frames, sampled as the processor does: vLLM and training must see the same ones.

    Args:
        processor: of the model.
        prompts: chat messages with their media inside; those of a group stay equal by `prompt_key`.
    """
    videos = processor.video_processor

    def opened(part: dict) -> dict:
        if part["type"] != "video" or not isinstance(part["video"], str):
            return part
        sample = partial(videos.sample_frames) if videos.do_sample_frames else None
        frames, metadata = videos.fetch_videos(part["video"], sample_indices_fn=sample)
        return {**part, "video": frames, "fps": metadata.sampled_fps}

    found: dict[tuple, list[dict]] = {}
    for prompt in prompts:
        if (key := prompt_key(prompt)) not in found:
            found[key] = [{**message, "content": [opened(part) for part in message["content"]]} for message in prompt]
    return [found[prompt_key(prompt)] for prompt in prompts]


def rollout_requests(
    processor: ProcessorMixin, prompts: Sequence[list[dict]], sparsity_p: Sequence[float], is_greedy: bool
) -> list[RolloutRequest]:
    """A request for each row; rows of a group share their media.

    Args:
        processor: of the model.
        prompts: as `with_frames` gives them.
        sparsity_p: of the rows.
        is_greedy: no sampling.
    """
    placeholders = processor.image_token_id, processor.video_token_id
    media = {prompt_key(prompt): prompt for prompt in prompts}
    media = {key: media_of(processor, prompt) for key, prompt in media.items()}
    return [
        RolloutRequest(p, is_greedy, media[prompt_key(prompt)], placeholders)
        for prompt, p in zip(prompts, sparsity_p, strict=True)
    ]


def media_of(processor: ProcessorMixin, prompt: list[dict]) -> dict[str, list]:
    """vLLM's `multi_modal_data` of chat messages whose videos are frames."""
    parts = [part for message in prompt for part in message["content"]]
    media = {
        "image": [load_image(part["image"]) for part in parts if part["type"] == "image"],
        "video": [_with_metadata(processor, part) for part in parts if part["type"] == "video"],
    }
    return {kind: items for kind, items in media.items() if items}


def _with_metadata(processor: ProcessorMixin, part: dict) -> tuple[np.ndarray, dict]:
    frames, fps = np.asarray(part["video"]), part.get("fps") or processor.video_processor.fps
    indices = list(range(len(frames)))
    return frames, {
        "fps": fps,
        "frames_indices": indices,
        "total_num_frames": len(indices),
        "duration": len(indices) / fps,
        "do_sample_frames": False,
    }
