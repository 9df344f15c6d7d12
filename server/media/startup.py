"""What vLLM's options and environment must not say beside ours, checked at the start."""

import argparse
import os
from pathlib import Path

from server.errors import InvalidServerSettings

CONNECTOR = "winnow"
# FFmpeg's demuxers and decoders that a video may use. Playlists (HLS, DASH, concat) name other files and addresses, and
# rare codecs are where decoders break. FFV1 is what the demo model's own videos are written in.
CONTAINERS = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi")
CODECS = ("h264", "hevc", "mpeg4", "vp8", "vp9", "av1", "libdav1d", "libaom-av1", "ffv1", "mjpeg")
# Read by vLLM when a request brings media, and by OpenCV when it opens a video.
ENVIRONMENT = {
    "VLLM_MEDIA_CONNECTOR": CONNECTOR,
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "|".join(
        (f"format_whitelist;{','.join(CONTAINERS)}", f"codec_whitelist;{','.join(CODECS)}", "protocol_whitelist;none")
    ),
    # Broken videos write what they like into FFmpeg's messages.
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
}

# vLLM's variable to the option that took its place; None where there is none.
REPLACED = {
    "VLLM_MEDIA_CONNECTOR": None,
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "--max-media-redirects",
    "VLLM_MEDIA_FETCH_MAX_RETRIES": None,
    "VLLM_MEDIA_CACHE": None,
    "VLLM_IMAGE_FETCH_TIMEOUT": "--media-timeout-s",
    "VLLM_VIDEO_FETCH_TIMEOUT": "--media-timeout-s",
    "VLLM_AUDIO_FETCH_TIMEOUT": "--media-timeout-s",
    "VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB": "--max-image-mib and --max-video-mib",
    "VLLM_MAX_IMAGE_PIXELS": "--max-image-pixels",
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": None,
}
DECODER = "opencv"


def check_media_options(args: argparse.Namespace) -> None:
    """Refuse what would be accepted and then have no effect, or would go around the limits.

    Args:
        args: vLLM's arguments.

    Raises:
        InvalidServerSettings: with the option at fault.
    """
    for name, option in REPLACED.items():
        if os.environ.get(name) not in (None, "", ENVIRONMENT.get(name)):
            remedy = f"Use {option} and unset it" if option else "Unset it"
            raise InvalidServerSettings(
                f"{name} is {os.environ[name]!r}, but this server loads media itself and would not read it. {remedy}."
            )
    folder = args.allowed_local_media_path
    if folder and not Path(folder).is_dir():
        raise InvalidServerSettings(
            f"--allowed-local-media-path is {folder}, but must be a folder. Create it or leave the option out."
        )
    _check_decoder(args)


def _check_decoder(args: argparse.Namespace) -> None:
    """Limits on containers, codecs, pixels and time hold in OpenCV's decoder only."""
    video = (args.media_io_kwargs or {}).get("video", {})
    for shown, decoder in (
        ("--media-io-kwargs video.backend", video.get("backend", DECODER)),
        ("--media-io-kwargs video.video_backend", video.get("video_backend", DECODER)),
        ("VLLM_VIDEO_LOADER_BACKEND", os.environ.get("VLLM_VIDEO_LOADER_BACKEND", DECODER)),
    ):
        if decoder in ("torchcodec", "pynvvideocodec", "deepstream"):
            raise InvalidServerSettings(
                f"{shown} is {decoder}, but the limits on videos hold in OpenCV's decoder only. Use {DECODER}."
            )
