"""The media connector that this server gives to vLLM: one gate for all media of all routes, before they are decoded."""

import asyncio
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pybase64
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector, MediaIO
from vllm.multimodal.media.audio import AudioMediaIO
from vllm.multimodal.media.connector import global_thread_pool
from vllm.multimodal.media.image import ImageMediaIO
from vllm.multimodal.media.video import VideoMediaIO

from server.media.fetch import Fetcher, too_large
from server.media.images import CheckedImageIO
from server.media.pixels import current_pixels
from server.media.settings import MediaSettings
from server.media.startup import CONNECTOR, ENVIRONMENT
from server.media.urls import refused
from server.media.videos import JPEG_FRAMES, CheckedVideoIO
from server.vllm_hooks import become

Media = TypeVar("Media")


def install(settings: MediaSettings) -> None:
    """Make vLLM load all media of this process through our connector, within these settings."""
    connector = partial(CheckedMediaConnector, settings=settings, fetcher=Fetcher(settings))
    MEDIA_CONNECTOR_REGISTRY.name2class[CONNECTOR] = connector
    os.environ.update(ENVIRONMENT)


class CheckedMediaConnector(MediaConnector):
    """vLLM's connector with our sources and limits; the same for http, https, data and file URLs.

    Args:
        settings: sources and limits.
        fetcher: for http and https.
        args, kwargs: those of `MediaConnector`.
    """

    def __init__(self, *args: Any, settings: MediaSettings, fetcher: Fetcher, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = settings
        self._fetcher = fetcher

    def load_from_url(self, url: str, media_io: MediaIO[Media], *, fetch_timeout: int | None = None) -> Media:
        """As `load_from_url_async`, for callers without an event loop."""
        return asyncio.run(self.load_from_url_async(url, media_io, fetch_timeout=fetch_timeout))

    async def load_from_url_async(
        self, url: str, media_io: MediaIO[Media], *, fetch_timeout: int | None = None
    ) -> Media:
        """Read, check and decode one picture, video or sound.

        Args:
            url: http, https, data or file.
            media_io: vLLM's loader of its kind; gets our checks.
            fetch_timeout: vLLM's; `--media-timeout-s` stands in its place.

        Raises:
            RequestRefused: it comes from where it must not, breaks a limit or is broken.
            ServerFull: other requests hold too many pixels.
            MediaUnavailable: its host does not answer as it should.
        """
        param, max_bytes = self._prepare(media_io)
        scheme = url.partition(":")[0].lower()
        if scheme == "data":
            load = partial(_load_data_url, url, media_io, param, max_bytes)
        elif scheme == "file":
            load = partial(self._load_local_file, url, media_io, param, max_bytes)
        else:
            data = await self._fetcher.fetch(url, param=param, max_bytes=max_bytes, domains=self.allowed_media_domains)
            load = partial(media_io.load_bytes, data)
        return await asyncio.get_running_loop().run_in_executor(global_thread_pool, load)

    def _prepare(self, media_io: MediaIO[Any]) -> tuple[str, int]:
        """Give a loader our checks; returns the name of its field and its limit of bytes."""
        if isinstance(media_io, ImageMediaIO):
            self._check_with(CheckedImageIO, media_io, "image_url")
            return "image_url", self._settings.max_image_bytes
        if isinstance(media_io, VideoMediaIO):
            self._check_with(CheckedVideoIO, media_io, "video_url")
            self._check_with(CheckedImageIO, media_io.image_io, "video_url")
            # The video counts its frames itself.
            media_io.image_io.pixels = None
            return "video_url", self._settings.max_video_bytes
        if isinstance(media_io, AudioMediaIO):
            return "audio_url", media_io.get_max_bytes()
        raise TypeError(f"{type(media_io).__name__} is a kind of media without limits")

    def _check_with(self, checked: type[CheckedImageIO | CheckedVideoIO], media_io: Any, param: str) -> None:
        if not isinstance(media_io, checked):
            become(media_io, checked)
        media_io.settings, media_io.param, media_io.pixels = self._settings, param, current_pixels()

    def _load_local_file(self, url: str, media_io: MediaIO[Media], param: str, max_bytes: int) -> Media:
        return media_io.load_bytes(self._read_file(url, param, max_bytes))

    def _read_file(self, url: str, param: str, max_bytes: int) -> bytes:
        """The content of a file under `--allowed-local-media-path`; what lies outside is not even looked at."""
        folder = self.allowed_local_media_path
        if folder is None:
            raise refused(url, param, "this server reads no local files", "Send the data itself")
        parts = urlsplit(url)
        try:
            path = Path(url2pathname(parts.path)).resolve()
            if parts.netloc not in ("", "localhost") or not path.is_relative_to(folder):
                raise refused(url, param, "must name a file below --allowed-local-media-path", "Move it there")
            status = path.stat()
        # ValueError: a NUL byte in it.
        except (OSError, ValueError) as error:
            raise refused(url, param, "must name a file that can be read", "Correct it") from error
        if not stat.S_ISREG(status.st_mode):
            raise refused(url, param, "must name a file", "Correct it")
        if status.st_size > max_bytes:
            raise too_large(url, param, max_bytes)
        with path.open("rb") as file:
            return file.read(max_bytes)


def _load_data_url(url: str, media_io: MediaIO[Media], param: str, max_bytes: int) -> Media:
    """Decode `data:TYPE;base64,DATA`, after a look at its length."""
    head, comma, data = url[len("data:") :].partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in (option.strip().lower() for option in options):
        raise refused(url[:32], param, "must be of the form data:TYPE;base64,DATA", "Encode it so")
    if len(data) > (max_bytes + 2) // 3 * 4 + data.count(",") * 4:
        raise too_large(url[:32], param, max_bytes)
    if media_type.lower() == JPEG_FRAMES and isinstance(media_io, CheckedVideoIO):
        return media_io.load_base64(media_type, data)
    try:
        decoded = pybase64.b64decode(data, validate=True)
    except ValueError as error:
        raise refused(url[:32], param, f"must hold base64 ({error})", "Encode it so") from error
    if len(decoded) > max_bytes:
        raise too_large(url[:32], param, max_bytes)
    return media_io.load_bytes(decoded)
