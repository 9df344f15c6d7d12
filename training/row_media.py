"""Pictures and videos of a rollout: from the messages of its prompt to what the model's forward pass takes.

Media travel through TRL as one list with an entry per row. TRL's own path pads and splits pictures only, and leaves
videos out of every log-probability (huggingface/trl#4144).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.video_utils import VideoMetadata

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
GRIDS = {"image": "image_grid_thw", "video": "video_grid_thw"}


@dataclass(frozen=True, slots=True)
class RowMedia:
    """The processed prompt of one row; rows of a group share one object.

    Attributes:
        prompt_ids: token ids with media placeholders expanded.
        fields: the processor's media fields: pixels, grids, `second_per_grid_ts`.
        token_types: `mm_token_type_ids` of the prompt, as long as `prompt_ids`.
        features: output of the vision tower by modality, [num_visual_tokens, hidden_size], where the tower is frozen;
            it then stands for the pixels, and a group pays for it once.
    """

    prompt_ids: list[int]
    fields: dict[str, torch.Tensor]
    token_types: torch.Tensor
    features: dict[str, torch.Tensor]


def fill_placeholders(
    prompt: list[dict],
    images: Sequence | None,
    videos: Sequence | None,
    video_fps: Sequence[float] | None = None,
    **columns,
) -> list[dict]:
    """Chat messages with each `{"type": "image"}` or `{"type": "video"}` holding its picture or video, in order.

    Args:
        prompt: chat messages.
        images: pictures in the order of their placeholders.
        videos: paths, or frames that are sampled already.
        video_fps: frames a second of each video; by default the rate that the processor samples with.
        columns: what else the row holds.

    Raises:
        ValueError: there are more or fewer placeholders than media.
    """
    rates = video_fps or [None] * len(videos or [])
    left = {
        "image": [{"type": "image", "image": image} for image in images or []],
        "video": [{"type": "video", "video": v, "fps": fps} for v, fps in zip(videos or [], rates, strict=True)],
    }

    def fill(part: dict) -> dict:
        kind = part["type"]
        if kind not in left or kind in part:
            return part
        if not left[kind]:
            raise ValueError(f"prompt has more {kind} placeholders than the row has {kind}s. Correct the row.")
        return left[kind].pop(0)

    messages = []
    for message in prompt:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        messages.append({**message, "content": [fill(part) for part in parts]})
    if any(left.values()):
        counts = ", ".join(f"{len(items)} {kind}(s)" for kind, items in left.items() if items)
        raise ValueError(f"prompt has no placeholder for {counts} of its row. Add placeholders or remove the media.")
    return messages


def prompt_key(prompt: list[dict]) -> tuple:
    """Equal for rows of a group, which hold the same media objects and the same text."""
    parts = [part for message in prompt for part in message["content"]]
    return tuple(part["text"] if part["type"] == "text" else _identity(part[part["type"]]) for part in parts)


def _identity(media: object) -> object:
    return media if isinstance(media, str) else id(media)


def process_prompt(processor: ProcessorMixin, prompt: list[dict], chat_template_kwargs: dict) -> RowMedia:
    """Tokenize one prompt and process its media.

    Args:
        processor: of the model.
        prompt: messages with their media inside, as `fill_placeholders` gives them.
        chat_template_kwargs: passed on to the chat template.
    """
    text = processor.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False, **chat_template_kwargs)
    parts = [part for message in prompt for part in message["content"]]
    images = [part["image"] for part in parts if part["type"] == "image"]
    videos = _video_arguments(processor, [part for part in parts if part["type"] == "video"])
    inputs = processor(text=[text], images=images or None, **videos, return_tensors="pt")
    fields = {name: inputs[name] for name in (*PIXELS.values(), *GRIDS.values()) if name in inputs}
    if "second_per_grid_ts" in inputs:
        fields["second_per_grid_ts"] = torch.as_tensor(inputs["second_per_grid_ts"], dtype=torch.float32)
    ids = inputs["input_ids"][0]
    token_types = inputs["mm_token_type_ids"][0] if "mm_token_type_ids" in inputs else torch.zeros_like(ids)
    return RowMedia(ids.tolist(), fields, token_types, {})


def _video_arguments(processor: ProcessorMixin, parts: list[dict]) -> dict:
    """What the processor is given for the videos of a prompt: paths it reads itself, or frames with their rate."""
    videos = [part["video"] for part in parts]
    if not videos or isinstance(videos[0], str):
        return {"videos": videos} if videos else {}
    usual = processor.video_processor.fps
    metadata = [
        VideoMetadata(len(part["video"]), fps=part.get("fps") or usual, frames_indices=range(len(part["video"])))
        for part in parts
    ]
    return {"videos": [np.asarray(frames) for frames in videos], "video_metadata": metadata, "do_sample_frames": False}


@torch.no_grad()
def with_features(row: RowMedia, model: PreTrainedModel) -> RowMedia:
    """The row with its pixels replaced by the output of a frozen vision tower."""
    device, features, fields = model.device, {}, dict(row.fields)
    for kind, pixels in PIXELS.items():
        if pixels in fields:
            encode = model.base_model.get_image_features if kind == "image" else model.base_model.get_video_features
            output = encode(fields.pop(pixels).to(device), fields[GRIDS[kind]].to(device), return_dict=True)
            features[kind] = torch.cat(tuple(output.pooler_output))
    return RowMedia(row.prompt_ids, fields, row.token_types, features)


def batch_fields(rows: Sequence[RowMedia], device: torch.device) -> dict:
    """Media arguments of a forward pass over rows: pixels or features, grids, time steps; one after the other."""
    names = dict.fromkeys(name for row in rows for name in row.fields)
    fields = {name: torch.cat([row.fields[name] for row in rows if name in row.fields]).to(device) for name in names}
    if features := batch_features(rows):
        fields["mm_encoder_outputs"] = features
    return fields


def batch_features(rows: Sequence[RowMedia]) -> dict[str, BaseModelOutputWithPooling]:
    """Vision tower outputs of rows in the form that the model's `mm_encoder_outputs` takes; empty without features."""
    found = {kind: [row.features[kind] for row in rows if kind in row.features] for kind in PIXELS}
    return {kind: BaseModelOutputWithPooling(pooler_output=parts) for kind, parts in found.items() if parts}


def batch_token_types(rows: Sequence[RowMedia], num_prompt_columns: int, num_columns: int, device) -> torch.Tensor:
    """`mm_token_type_ids` of left-padded prompts with completions behind them. [num_rows, num_columns]"""
    types = torch.zeros(len(rows), num_columns, dtype=torch.int64, device=device)
    for index, row in enumerate(rows):
        types[index, num_prompt_columns - len(row.token_types) : num_prompt_columns] = row.token_types.to(device)
    return types


class VisionFeatures:
    """Lets `generate` take features instead of pixels: its own `mm_encoder_outputs` argument cannot come through TRL.

    Args:
        model: a vision-language model of transformers, not wrapped.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._features: dict[str, BaseModelOutputWithPooling] = {}
        model.base_model.register_forward_pre_hook(self._add_features, with_kwargs=True)

    @contextmanager
    def use(self, rows: Sequence[RowMedia]) -> Iterator[None]:
        """Prompts prefilled inside take the features of these rows."""
        self._features = batch_features(rows)
        try:
            yield
        finally:
            self._features = {}

    def _add_features(self, module, args, kwargs):
        cache = kwargs.get("past_key_values")
        if not self._features or cache is None or cache.get_seq_length():
            return None
        return args, {**kwargs, "mm_encoder_outputs": dict(self._features)}
