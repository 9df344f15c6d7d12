"""Videos: every container and codec that is served, and limits before and while decoding."""

import base64
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from vllm.multimodal.media.image import ImageMediaIO
from vllm.multimodal.media.video import VideoMediaIO
from vllm.multimodal.video_decoders import opencv

from server.errors import RequestRefused
from server.media import videos
from server.media.images import CheckedImageIO
from server.media.settings import MediaSettings
from server.media.startup import ENVIRONMENT
from server.media.videos import CheckedVideoIO
from server.vllm_hooks import become
from tests.server.media import corpus


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def video_io(backend: str = "qwen2_vl", num_frames: int = 32, **settings: object) -> CheckedVideoIO:
    """vLLM's loader with our checks, as the connector prepares it."""
    media_io = VideoMediaIO(ImageMediaIO(), num_frames=num_frames, video_backend=backend)
    become(media_io, CheckedVideoIO)
    become(media_io.image_io, CheckedImageIO)
    media_io.settings = media_io.image_io.settings = MediaSettings(**settings)
    media_io.image_io.param = "video_url"
    return media_io


def frames(*sizes: tuple[int, int]) -> str:
    """JPEG frames as a data URL of type video/jpeg holds them."""
    pictures = (corpus.saved(Image.new("RGB", size, "red"), "JPEG") for size in sizes)
    return ",".join(base64.b64encode(picture).decode() for picture in pictures)


@pytest.mark.parametrize("case", [case for case in corpus.VIDEOS if case.refused is None], ids=lambda case: case.name)
@pytest.mark.parametrize("backend", ["opencv", "qwen2_vl", "qwen3_vl", "opencv_dynamic"])
def test_videos_are_decoded_as_vllm_decodes_them(case, backend):
    data = case.make()
    ours, metadata = video_io(backend).load_bytes(data).media
    theirs, their_metadata = VideoMediaIO(ImageMediaIO(), video_backend=backend).load_bytes(data).media
    assert np.array_equal(ours, theirs)
    assert metadata == their_metadata
    assert ours.mean() > 1


@pytest.mark.parametrize("case", [case for case in corpus.VIDEOS if case.refused], ids=lambda case: case.name)
def test_hostile_videos_are_refused(case):
    with pytest.raises(RequestRefused, match=case.refused) as refusal:
        video_io().load_bytes(case.make())
    assert refusal.value.parameter == "video_url"


def test_playlists_lead_nowhere(web):
    """The address in it is never asked."""
    for kind in ("hls", "concat"):
        with pytest.raises(RequestRefused):
            video_io().load_bytes(corpus.playlist(kind, web.url("/video")))
    assert web.requests == []


@pytest.mark.parametrize(
    ("limit", "allowed", "message"),
    [
        ("max_image_pixels", 4096, "64 x 64 pixels, but may have at most 4095"),
        ("max_video_frames", 6, "6 frames, but may have at most 5"),
        ("max_video_pixels", 4 * 4096, "in 4 sampled frames, but may have at most 16383"),
    ],
)
def test_limits(limit, allowed, message):
    assert len(video_io(**{limit: allowed}).load_bytes(corpus.video()).media[0]) == 4
    with pytest.raises(RequestRefused, match=message):
        video_io(**{limit: allowed - 1}).load_bytes(corpus.video())


def test_seconds():
    video_io(max_video_s=1.5).load_bytes(corpus.video())
    with pytest.raises(RequestRefused, match="lasts 2 s, but may last at most 1 s"):
        video_io(max_video_s=1.4).load_bytes(corpus.video())


def test_the_time_to_decode_is_limited():
    """Opening a video alone takes longer than this limit."""
    video = corpus.video("mp4", "mp4v", num_frames=60, size=(320, 240))
    assert len(video_io().load_bytes(video).media[0]) > 0
    with pytest.raises(RequestRefused, match="--max-decode-s"):
        video_io(max_decode_s=0.001).load_bytes(video)


def test_jpeg_frames():
    assert video_io().load_base64("video/jpeg", frames((64, 48), (64, 48))).media[0].shape == (2, 48, 64, 3)


@pytest.mark.parametrize(
    ("data", "message", "settings"),
    [
        (frames(*[(8, 8)] * 33), "33 JPEG frames, but may have at most 32", {}),
        (frames((64, 48), (32, 48)), "frames of one size", {}),
        (frames((64, 48), (64, 48)), "6144 pixels in 2 sampled frames", {"max_video_pixels": 6143}),
        (frames((64, 48)), "64 x 48 pixels", {"max_image_pixels": 3071}),
        (frames((64, 48)) + ",", "no picture", {}),
        (frames((64, 48)) + ",?", "no base64 in frame 1", {}),
        (base64.b64encode(corpus.animated("GIF")).decode(), "3 frames", {}),
    ],
    ids=["too-many", "sizes", "pixels-of-all", "pixels-of-one", "empty", "no-base64", "animated"],
)
def test_jpeg_frames_that_are_refused(data, message, settings):
    with pytest.raises(RequestRefused, match=message) as refusal:
        video_io(**settings).load_base64("video/jpeg", data)
    assert refusal.value.parameter == "video_url"


def test_any_beginning_of_a_video_is_refused_or_decoded():
    """Cut everywhere, decoded in threads as the server does: no other exception, no crash of the process."""

    def load(data: bytes) -> None:
        with suppress(RequestRefused):
            video_io().load_bytes(data)

    pieces = [
        data[:length]
        for data in (corpus.video(), corpus.video("mp4", "mp4v"), corpus.video("webm", "VP80"))
        for length in range(0, len(data), len(data) // 15)
    ]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(load, pieces))


def test_a_video_that_seeks_before_its_beginning_ends_no_process():
    """In a process of its own: where this fails, OpenCV ends it."""
    code = (
        "from server.media import videos\n"
        "from tests.server.media import corpus\n"
        "print(videos.VideoHeader.read(corpus.video_that_seeks_before_its_beginning(), 'video_url').num_frames)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split()[-1:]) == (0, ["6"]), run.stderr[-2000:]


def test_the_stream_says_what_it_cannot_do():
    stream = videos.SafeStream(b"abc")
    assert (stream.seek(2), stream.seek(-1), stream.seek(1 << 70), stream.tell()) == (2, -1, -1, 2)
    assert opencv.BytesIO is videos.SafeStream
