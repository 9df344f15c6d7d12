"""Options about media: the sources that may be fetched from and the limits that hold before anything is decoded."""

import argparse
from dataclasses import dataclass, fields
from typing import Any

from PIL import Image
from vllm.multimodal.image import ALLOWED_IMAGE_FORMATS

from server.errors import InvalidServerSettings
from server.flags import flag
from server.media.addresses import TrustedHosts

MIB = 1 << 20
# Above this Pillow itself refuses a picture as a decompression bomb.
PILLOW_MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """What media may be, wherever it comes from, and where it may come from.

    Attributes:
        max_image_mib: encoded size of a picture.
        max_video_mib: encoded size of a video.
        max_image_pixels: width times height of a picture or of a video's frame.
        max_video_frames: frames that a video may hold, decoded or not.
        max_video_s: length of a video.
        max_video_pixels: decoded pixels of all frames that the model sees of one video.
        max_decoded_pixels: of all media of all requests in flight.
        max_decode_s: time to decode one video.
        image_formats: Pillow's names.
        media_ports: TCP ports that URLs may name.
        trusted_media_hosts: networks, addresses and host names that may be fetched from although they are not public.
        max_media_redirects: followed for one URL; each is checked like the first.
        media_timeout_s: for a whole fetch, redirects and waiting included.
        max_media_fetches: that run at a time.
        allow_media_uuids: whether requests may name media by a `uuid` that vLLM's caches take for its content.

    Raises:
        InvalidServerSettings: a value is out of range.
    """

    max_image_mib: int = 32
    max_video_mib: int = 128
    max_image_pixels: int = 1 << 26
    max_video_frames: int = 36_000
    max_video_s: float = 1200.0
    max_video_pixels: int = 1 << 29
    max_decoded_pixels: int = 1 << 30
    max_decode_s: float = 60.0
    image_formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
    media_ports: tuple[int, ...] = (80, 443)
    trusted_media_hosts: tuple[str, ...] = ()
    max_media_redirects: int = 0
    media_timeout_s: float = 10.0
    max_media_fetches: int = 64
    allow_media_uuids: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_image_mib", 1, 4096),
            ("max_video_mib", 1, 4096),
            ("max_image_pixels", 1, PILLOW_MAX_PIXELS),
            ("max_video_frames", 1, 10_000_000),
            ("max_video_s", 0.1, 86_400),
            ("max_video_pixels", 1, 1 << 40),
            ("max_decoded_pixels", 1, 1 << 44),
            ("max_decode_s", 0.001, 3600),
            ("max_media_redirects", 0, 10),
            ("media_timeout_s", 0.1, 3600),
            ("max_media_fetches", 1, 10_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise _invalid(name, getattr(self, name), f"must lie between {low} and {high}. Choose such a value.")
        for one in ("max_image_pixels", "max_video_pixels"):
            if self.max_decoded_pixels < getattr(self, one):
                raise _invalid(
                    "max_decoded_pixels",
                    self.max_decoded_pixels,
                    f"must be at least {flag(one)}, which is {getattr(self, one)}. Raise the first or lower that.",
                )
        if not self.image_formats or not set(self.image_formats) <= set(ALLOWED_IMAGE_FORMATS):
            raise _invalid(
                "image_formats",
                " ".join(self.image_formats) or "empty",
                f"may name {', '.join(ALLOWED_IMAGE_FORMATS)} only. Choose among these.",
            )
        if not self.media_ports or not all(1 <= port <= 65_535 for port in self.media_ports):
            raise _invalid("media_ports", self.media_ports, "must be between 1 and 65535. Choose such ports.")
        try:
            TrustedHosts.of(self.trusted_media_hosts)
        except ValueError as error:
            raise _invalid(
                "trusted_media_hosts",
                " ".join(self.trusted_media_hosts),
                f"must hold networks such as 10.1.0.0/16, addresses or host names ({error}). Correct it.",
            ) from error

    @property
    def max_image_bytes(self) -> int:
        """`max_image_mib` in bytes."""
        return self.max_image_mib * MIB

    @property
    def max_video_bytes(self) -> int:
        """`max_video_mib` in bytes."""
        return self.max_video_mib * MIB

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> "MediaSettings":
        """Read the options that `add_media_arguments` declared.

        Raises:
            InvalidServerSettings: a value is out of range.
        """
        values = {option.name: getattr(args, option.name) for option in fields(cls)}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _invalid(name: str, value: Any, rule: str) -> InvalidServerSettings:
    return InvalidServerSettings(f"{flag(name)} is {value}, but {rule}")


# Option to its help; type and default are those of the field.
HELP = {
    "max_image_mib": "Largest encoded picture in MiB, fetched or sent along.",
    "max_video_mib": "Largest encoded video in MiB, fetched or sent along.",
    "max_image_pixels": "Most pixels of a picture or of a video's frame, checked before decoding.",
    "max_video_frames": "Most frames that a video may hold.",
    "max_video_s": "Longest video in seconds.",
    "max_video_pixels": "Most pixels of all frames together that are decoded from one video.",
    "max_decoded_pixels": "Most pixels that all requests in flight decode together; more get HTTP 503.",
    "max_decode_s": "Seconds that decoding one video may take.",
    "image_formats": "Formats of pictures that are decoded, by Pillow's names.",
    "media_ports": "TCP ports that media URLs may use.",
    "trusted_media_hosts": "Networks, addresses or host names to fetch media from although they are not public.",
    "max_media_redirects": "HTTP redirects to follow for one media URL; each is checked like the first.",
    "media_timeout_s": "Seconds for a whole media fetch.",
    "max_media_fetches": "Media fetches that run at a time; others wait.",
    "allow_media_uuids": "Let requests name media by a `uuid`, which caches believe; for trusted clients only.",
}


def add_media_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options about media."""
    group = parser.add_argument_group("Winnow media", "Where pictures and videos may come from, and their limits.")
    for option in fields(MediaSettings):
        spelling, text, default = flag(option.name), HELP[option.name], option.default
        if isinstance(default, bool):
            group.add_argument(spelling, action=argparse.BooleanOptionalAction, default=default, help=text)
        elif isinstance(default, tuple):
            kind = int if option.name == "media_ports" else str
            group.add_argument(spelling, nargs="+", type=kind, default=list(default), help=text)
        else:
            group.add_argument(spelling, type=type(default), default=default, help=text)
