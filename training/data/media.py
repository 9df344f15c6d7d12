"""Images and videos from disk, no larger than asked for."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

# Qwen2-VL and Qwen2.5-VL pair frames up.
FRAMES_PER_PATCH = 2


class UnreadableMedia(ValueError):
    """A file is there, but is no image or video that can be decoded."""


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """How much of an image or a video is taken.

    Attributes:
        max_pixels: larger images are shrunk to about this area; None leaves them.
        max_frame_pixels: the same for each frame of a video.
        max_frames: most frames of a video, taken at equal distances.
        frames_per_second: frames taken from a video that is short enough.
    """

    max_pixels: int | None = None
    max_frame_pixels: int | None = None
    max_frames: int = 16
    frames_per_second: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ValueError(f"{field.name} is {value}, but must be greater than 0. Give such a number.")
        if self.max_frames < FRAMES_PER_PATCH:
            raise ValueError(
                f"max_frames is {self.max_frames}, but must be at least {FRAMES_PER_PATCH}, since frames go in pairs."
            )


class Video(NamedTuple):
    """Sampled frames, uint8 RGB `[num_frames, height, width, 3]`, and how many of them make a second."""

    frames: np.ndarray
    frames_per_second: float


def load_image(path: str, limits: MediaLimits) -> Image.Image:
    """An RGB image.

    Raises:
        UnreadableMedia: the file is no image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except OSError as error:
        raise UnreadableMedia(f"{path} is no image that Pillow can read ({error})") from error
    size = _shrunk(image.width, image.height, limits.max_pixels)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def load_video(path: str, limits: MediaLimits) -> Video:
    """An even number of frames at equal distances, from the first to the last.

    Raises:
        UnreadableMedia: the file is no video, or has no frames.
    """
    capture = cv2.VideoCapture(path)
    try:
        num_frames, native = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
        if not capture.isOpened() or num_frames < 1 or native <= 0:
            raise UnreadableMedia(f"{path} is no video that OpenCV can read")
        wanted = frame_indices(num_frames, native, limits)
        frames = _read(capture, wanted, limits.max_frame_pixels)
    finally:
        capture.release()
    if not frames:
        raise UnreadableMedia(f"{path} has no frames that OpenCV can decode")
    # A container may promise more frames than it has, and one may be alone: the last one fills the pair.
    frames += frames[-1:] * (-len(frames) % FRAMES_PER_PATCH)
    return Video(np.stack(frames), native * len(wanted) / num_frames)


def frame_indices(num_frames: int, native: float, limits: MediaLimits) -> list[int]:
    """Which frames to take.

    Args:
        num_frames: frames of the video.
        native: frames that the video has in a second.
        limits: how many to take.
    """
    most = min(limits.max_frames, num_frames)
    count = min(most, round(num_frames / native * limits.frames_per_second))
    count = max(count - count % FRAMES_PER_PATCH, min(FRAMES_PER_PATCH, num_frames))
    return np.linspace(0, num_frames - 1, count).round().astype(int).tolist()


def _read(capture: cv2.VideoCapture, wanted: list[int], max_pixels: int | None) -> list[np.ndarray]:
    """Reads from the start: seeking in compressed video is not exact everywhere."""
    frames: list[np.ndarray] = []
    for index in range(wanted[-1] + 1):
        if not capture.grab():
            break
        if index == wanted[len(frames)]:
            _, frame = capture.retrieve()
            size = _shrunk(frame.shape[1], frame.shape[0], max_pixels)
            if size != (frame.shape[1], frame.shape[0]):
                frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            frames.append(np.ascontiguousarray(frame[..., ::-1]))
    return frames


def _shrunk(width: int, height: int, max_pixels: int | None) -> tuple[int, int]:
    """Width and height with at most `max_pixels`, in the same proportion."""
    if max_pixels is None or width * height <= max_pixels:
        return width, height
    scale = (max_pixels / (width * height)) ** 0.5
    return max(1, int(width * scale)), max(1, int(height * scale))
