"""Scenes as pixels, as files, and as the patches that Qwen2.5-VL's processor makes of them.

Files are lossless (PNG; FFV1 in MP4, which the OpenCV wheels of pip both write and read), so a model sees the same
pixels through HTTP as in training.
"""

from pathlib import Path

import cv2
import numpy as np
import torch

from .geometry import CELL_SIZE, FRAMES_PER_SECOND, MERGE_SIZE, PATCH_SIZE, TEMPORAL_PATCH_SIZE
from .glyphs import GLYPH_NAMES, GLYPHS
from .scenes import Scene, Thing
from .words import COLORS

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_NOISE_CELL = 2
"""Side of a noise grain in pixels: coarse enough for PNG and FFV1 to pack well."""


def render(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """Draw a scene.

    Args:
        rng: Source of background, noise and small shifts.
        scene: What to draw.

    Returns:
        uint8 RGB frames `[num_frames, grid * 28, grid * 28, 3]`: one frame a picture, two a temporal patch of a video.
    """
    size = scene.size
    is_video = size.kind == "video"
    num_frames = size.num_steps * TEMPORAL_PATCH_SIZE if is_video else size.num_pictures
    side = size.grid * CELL_SIZE
    frames = np.empty((num_frames, side, side, 3), dtype=np.int16)
    frames[:] = rng.integers(15, 70, size=(1 if is_video else num_frames, 1, 1, 3))
    for thing in scene.things:
        seen = (
            slice(thing.first_step * TEMPORAL_PATCH_SIZE, (thing.last_step + 1) * TEMPORAL_PATCH_SIZE)
            if is_video
            else slice(thing.picture, thing.picture + 1)
        )
        _paint(rng, frames[seen], thing)
    amplitude = int(rng.integers(4, 20))
    grains = side // _NOISE_CELL
    noise = rng.integers(-amplitude, amplitude + 1, size=(num_frames, grains, grains, 1), dtype=np.int16)
    frames += noise.repeat(_NOISE_CELL, axis=1).repeat(_NOISE_CELL, axis=2)
    return np.clip(frames, 0, 255).astype(np.uint8)


def _paint(rng: np.random.Generator, frames: np.ndarray, thing: Thing) -> None:
    """Fill the thing's cells in place, with a colour and (except for bars) a position that vary a little."""
    color = np.array(COLORS[thing.color]) + rng.integers(-12, 13, size=3)
    shift = rng.integers(-2, 3, size=2).tolist()
    for level in range(thing.height):
        is_bar = thing.name == "bar"
        mask = GLYPHS["bar top"] if is_bar and level == thing.height - 1 else GLYPHS[thing.name]
        if not is_bar:
            mask = np.roll(mask, shift, axis=(0, 1))
        top, left = (thing.row - level) * CELL_SIZE, thing.col * CELL_SIZE
        frames[:, top : top + CELL_SIZE, left : left + CELL_SIZE][:, mask] = color


def cell_labels(scene: Scene) -> np.ndarray:
    """What each visual token shows: `[num_visual_tokens, 3]` int64.

    Glyph and colour count from 1, 0 is an empty cell; the third column is the picture or the temporal patch, from 0.
    """
    size = scene.size
    labels = np.zeros((size.num_pictures * size.num_steps, size.grid, size.grid, 3), dtype=np.int64)
    labels[..., 2] = np.arange(labels.shape[0])[:, None, None]
    for thing in scene.things:
        planes = slice(thing.picture + thing.first_step, thing.picture + thing.last_step + 1)
        color = 1 + list(COLORS).index(thing.color)
        for level in range(thing.height):
            name = "bar top" if thing.name == "bar" and level == thing.height - 1 else thing.name
            labels[planes, thing.row - level, thing.col, :2] = 1 + GLYPH_NAMES.index(name), color
    return labels.reshape(-1, 3)


def pixel_patches(frames: np.ndarray, is_video: bool) -> torch.Tensor:
    """The `pixel_values` that the processor makes of frames at their own size, without the processor.

    Args:
        frames: uint8 `[num_frames, height, width, 3]`; sides are multiples of 28.
        is_video: Whether pairs of frames make a temporal patch; a picture is repeated to fill its own.

    Returns:
        float32 `[num_patches, 3 * 2 * 14 * 14]`, merge blocks together as Qwen2.5-VL wants them.
    """
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).to(torch.float32)
    mean, std = (255.0 * torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    pixels = (pixels - mean) / std
    num_frames, channels, height, width = pixels.shape
    temporal = TEMPORAL_PATCH_SIZE if is_video else 1
    block = MERGE_SIZE * PATCH_SIZE
    # [t, temporal, c, rows, merge, patch, cols, merge, patch]
    split = pixels.view(
        num_frames // temporal, temporal, channels,
        height // block, MERGE_SIZE, PATCH_SIZE, width // block, MERGE_SIZE, PATCH_SIZE,
    )  # fmt: skip
    # [t, rows, cols, merge, merge, c, temporal, patch, patch]
    split = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    split = split.expand(*split.shape[:6], TEMPORAL_PATCH_SIZE, *split.shape[7:])
    return split.reshape(-1, channels * TEMPORAL_PATCH_SIZE * PATCH_SIZE**2)


def write_image(path: Path, frame: np.ndarray) -> None:
    """Write one RGB frame as PNG."""
    if not cv2.imwrite(str(path), frame[..., ::-1]):
        raise OSError(
            f"path {path}: OpenCV could not write this PNG file; check that the folder exists and is writable."
        )


def write_video(path: Path, frames: np.ndarray) -> None:
    """Write RGB frames as lossless FFV1 in MP4."""
    height, width = frames.shape[1:3]
    codec = cv2.VideoWriter_fourcc(*"FFV1")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, float(FRAMES_PER_SECOND), (width, height))
    if not writer.isOpened():
        raise OSError(f"path {path}: OpenCV could not open an FFV1 writer; install opencv-python-headless from pip.")
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
