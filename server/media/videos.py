"""Videos: container, codec, size, length and frames are read from the header and checked before vLLM decodes them."""

import copy
import math
import time
from dataclasses import dataclass
from io import SEEK_SET, BytesIO
from typing import Any

import cv2
import numpy.typing as npt
import pybase64
from vllm.exceptions import VLLMError
from vllm.multimodal.media import MediaWithBytes
from vllm.multimodal.media.video import VideoMediaIO
from vllm.multimodal.video import VideoLoader
from vllm.multimodal.video_decoders import opencv

from server.media.images import check_picture, said, unfit
from server.media.pixels import HeldPixels
from server.media.settings import MediaSettings

JPEG_FRAMES = "video/jpeg"
# As OpenCV, of one version or another, names the codecs of `startup.CODECS`.
CODEC_TAGS = frozenset(
    {"h264", "H264", "avc1", "hevc", "HEVC", "hvc1", "hev1", "FMP4", "mp4v", "VP80", "VP90", "AV01", "av01", "MJPG"}
    | {"ffv1", "FFV1"}
)


class SafeStream(BytesIO):
    """A video's bytes for OpenCV, which a Python exception out of its stream ends together with the process.

    Seen with OpenCV 5.0: damaged chunks of an AVI make FFmpeg seek to before its beginning.
    """

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """The new position; -1, FFmpeg's sign of a failure, where there is none."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return -1


# Where vLLM opens videos.
opencv.BytesIO = SafeStream


class CheckedVideoIO(VideoMediaIO):
    """vLLM's loader of videos, with limits before and while decoding.

    Attributes:
        settings: limits.
        param: the request's field that holds the video.
        pixels: what its request holds of those that may be decoded at a time.
    """

    settings: MediaSettings
    param: str = "video_url"
    pixels: HeldPixels | None = None

    def load_bytes(self, data: bytes) -> MediaWithBytes[Any]:
        """Decode the frames that the model samples.

        Raises:
            RequestRefused: the video is broken, or breaks a limit.
        """
        header = VideoHeader.read(data, self.param)
        header.check(self.settings, self.param)
        bounded = copy.copy(self)
        bounded.video_loader = self._bounded(type(self.video_loader), header)()
        try:
            video = VideoMediaIO.load_bytes(bounded, data)
        except VLLMError:
            raise
        # Decoders raise almost anything on broken data: cv2.error, ZeroDivisionError, AssertionError ...
        except Exception as error:
            raise unfit(self.param, f"is a video that cannot be decoded ({said(error)})", "Send a whole one") from error
        if len(video.media[0]) == 0:
            raise unfit(self.param, "is a video of which no frame can be decoded", "Send a whole one")
        return video

    def load_base64(self, media_type: str, data: str) -> MediaWithBytes[Any]:
        """Decode a video, or the JPEG frames of one with commas between them.

        Raises:
            RequestRefused: it is broken, or breaks a limit.
        """
        if media_type.lower() != JPEG_FRAMES:
            return super().load_base64(media_type, data)
        self._check_frames(data)
        try:
            return super().load_base64(media_type, data)
        except ValueError as error:
            raise unfit(
                self.param, f"is no row of JPEG frames of one size ({said(error)})", "Send such a row"
            ) from error

    def _check_frames(self, data: str) -> None:
        num_frames = data.count(",") + 1
        max_frames = self.num_frames if self.num_frames > 0 else self.settings.max_video_frames
        if num_frames > max_frames:
            raise unfit(
                self.param,
                f"has {num_frames} JPEG frames, but may have at most {max_frames}",
                "Send fewer, or raise num_frames in --media-io-kwargs",
            )
        num_pixels = 0
        for number, frame in enumerate(data.split(",")):
            width, height = check_picture(_decoded(frame, number, self.param), self.settings, self.param)
            num_pixels += width * height
        self._take_pixels(num_pixels, num_frames)

    def _bounded(self, loader: type[VideoLoader], header: "VideoHeader") -> type[VideoLoader]:
        """A loader that samples as `loader` does, within the limits of decoded pixels and time."""
        deadline = time.monotonic() + self.settings.max_decode_s
        param, take_pixels = self.param, self._take_pixels

        class Bounded(loader):
            @classmethod
            def compute_frames_index_to_sample(cls, *args: Any, **kwargs: Any) -> list[int]:
                frames = super().compute_frames_index_to_sample(*args, **kwargs)
                take_pixels(len(frames) * header.width * header.height, len(frames))
                return frames

            @classmethod
            def read_frames(cls, cap: Any, *args: Any, **kwargs: Any) -> tuple[npt.NDArray, list[int]]:
                return super().read_frames(_Capture(cap, deadline, param), *args, **kwargs)

        return Bounded

    def _take_pixels(self, num_pixels: int, num_frames: int) -> None:
        if num_pixels > self.settings.max_video_pixels:
            raise unfit(
                self.param,
                f"has {num_pixels} pixels in {num_frames} sampled frames, but may have at most "
                f"{self.settings.max_video_pixels}",
                "Send a smaller or shorter video",
            )
        if self.pixels is not None:
            self.pixels.take(num_pixels, self.param)


def _decoded(frame: str, number: int, param: str) -> bytes:
    try:
        return pybase64.b64decode(frame, validate=True)
    except ValueError as error:
        raise unfit(param, f"has no base64 in frame {number} ({said(error)})", "Encode every frame") from error


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """What a video says of itself before a frame is decoded for the model.

    Attributes:
        width, height: of a frame, in pixels.
        num_frames: as the container counts them.
        fps: frames a second; 0 where unknown.
        codec: four characters.
    """

    width: int
    height: int
    num_frames: int
    fps: float
    codec: str

    @classmethod
    def read(cls, data: bytes, param: str) -> "VideoHeader":
        """Open a video and read its header.

        Raises:
            RequestRefused: it is no video, or in no container that is served.
        """
        try:
            capture = opencv.OpenCVVideoBackendMixin.open_video_capture(data)
        except ValueError as error:
            raise unfit(
                param, "is no video in a container that is served: MP4, MOV, WebM, Matroska or AVI", "Convert it"
            ) from error
        # Not released by hand: OpenCV would let go of the interpreter's lock and then of a Python object.
        width, height, num_frames, fps, tag = (
            _finite(capture.get(number))
            for number in (
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FPS,
                cv2.CAP_PROP_FOURCC,
            )
        )
        codec = (int(tag) & 0xFFFF_FFFF).to_bytes(4, "little").decode("latin-1")
        return cls(int(width), int(height), int(num_frames), fps, codec)

    def check(self, settings: MediaSettings, param: str) -> None:
        """Refuse what is over a limit.

        Raises:
            RequestRefused: with the limit.
        """
        if self.codec not in CODEC_TAGS:
            raise unfit(
                param,
                f"is a video in codec {self.codec!r}, but may be in H.264, HEVC, MPEG-4, VP8, VP9, AV1, FFV1 or MJPEG",
                "Convert it",
            )
        if min(self.width, self.height, self.num_frames) < 1:
            raise unfit(
                param,
                f"is a video whose header names {self.num_frames} frames of {self.width} x {self.height} pixels, but "
                "must name its size and length",
                "Write it to a file as a whole",
            )
        if self.width * self.height > settings.max_image_pixels:
            raise unfit(
                param,
                f"has frames of {self.width} x {self.height} pixels, but may have at most {settings.max_image_pixels}",
                "Send a smaller video",
            )
        if self.num_frames > settings.max_video_frames:
            raise unfit(
                param,
                f"has {self.num_frames} frames, but may have at most {settings.max_video_frames}",
                "Send a part of it, or fewer frames a second",
            )
        if self.fps > 0 and self.num_frames / self.fps > settings.max_video_s:
            raise unfit(
                param,
                f"lasts {self.num_frames / self.fps:.0f} s, but may last at most {settings.max_video_s:.0f} s",
                "Send a part of it",
            )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


class _Capture:
    """An OpenCV capture that stops at a deadline.

    Args:
        capture: OpenCV's.
        deadline: of `time.monotonic()`.
        param: the request's field that holds the video.
    """

    def __init__(self, capture: cv2.VideoCapture, deadline: float, param: str) -> None:
        self._capture = capture
        self._deadline = deadline
        self._param = param

    def __getattr__(self, name: str) -> Any:
        return getattr(self._capture, name)

    def grab(self) -> bool:
        if time.monotonic() > self._deadline:
            raise unfit(
                self._param,
                "is a video that takes longer to decode than --max-decode-s",
                "Send a smaller or shorter one",
            )
        return self._capture.grab()

    def read(self) -> tuple[bool, npt.NDArray | None]:
        return self._capture.retrieve() if self.grab() else (False, None)
