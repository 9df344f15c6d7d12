"""Pictures: format, pixels and frames are read from the header and checked before vLLM decodes them."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError
from vllm.multimodal.media import MediaWithBytes
from vllm.multimodal.media.image import ImageMediaIO

from server.errors import RequestRefused
from server.media.pixels import HeldPixels
from server.media.settings import MediaSettings

# Every scan of a progressive JPEG passes over the whole picture again, and takes a few bytes to ask for.
MAX_JPEG_SCANS = 100
MAX_SAID_CHARS = 120
START_OF_SCAN = b"\xff\xda"
SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


class CheckedImageIO(ImageMediaIO):
    """vLLM's loader of pictures, with limits before decoding and with 16-bit greys.

    Attributes:
        settings: formats and limits.
        param: the request's field that holds the picture.
        pixels: what its request holds of those that may be decoded at a time.
    """

    settings: MediaSettings
    param: str = "image_url"
    pixels: HeldPixels | None = None

    def load_bytes(self, data: bytes) -> MediaWithBytes[Image.Image]:
        """Decode a picture.

        Raises:
            RequestRefused: it is broken, or breaks a limit.
            ServerFull: other requests hold too many pixels.
        """
        width, height = check_picture(data, self.settings, self.param)
        if self.pixels is not None:
            self.pixels.take(width * height, self.param)
        try:
            return super().load_bytes(data)
        except RequestRefused:
            raise
        # Decoders raise almost anything on broken data: struct.error, SyntaxError, EOFError, zlib.error ...
        except Exception as error:
            raise unfit(
                self.param, f"is a picture that cannot be decoded ({said(error)})", "Send a whole one"
            ) from error

    def _convert_image_mode(self, image: Image.Image | MediaWithBytes[Image.Image]) -> Image.Image:
        """As vLLM's, but Pillow's conversion of 16-bit greys to 8 bits would turn all but the darkest ones white."""
        picture = image.media if isinstance(image, MediaWithBytes) else image
        if picture.mode in SIXTEEN_BITS:
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        if picture.mode in ("I", "F"):
            raise unfit(
                self.param,
                f"is a picture of mode {picture.mode}, but its values must have a known range",
                "Send 8 or 16 bits for each channel",
            )
        return super()._convert_image_mode(picture)


def check_picture(data: bytes, settings: MediaSettings, param: str) -> tuple[int, int]:
    """Check a picture by its header.

    Args:
        data: encoded.
        settings: formats and limits.
        param: the request's field that holds it.

    Returns:
        Width and height in pixels.

    Raises:
        RequestRefused: it breaks a limit, or is no picture.
    """
    if len(data) > settings.max_image_bytes:
        raise unfit(
            param, f"has {len(data)} bytes, but may have at most {settings.max_image_bytes}", "Send a smaller picture"
        )
    try:
        picture = Image.open(io.BytesIO(data), formats=settings.image_formats)
        width, height = picture.size
        if width * height > settings.max_image_pixels:
            raise _too_many_pixels(param, f"{width} x {height} pixels", settings)
        # The other pictures of an MPO are previews that phones append to a JPEG.
        num_frames = getattr(picture, "n_frames", 1) if picture.format != "MPO" else 1
    except RequestRefused:
        raise
    except UnidentifiedImageError as error:
        formats = ", ".join(settings.image_formats)
        raise unfit(param, f"is no picture in a format that is served: {formats}", "Convert it") from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(param, "more pixels than any picture needs", settings) from error
    # As above: headers can be broken in as many ways as data.
    except Exception as error:
        raise unfit(param, f"is a picture with a broken header ({said(error)})", "Send a whole one") from error
    if num_frames > 1:
        raise unfit(param, f"has {num_frames} frames, but a picture has one", "Send one frame, or a video")
    if picture.format in ("JPEG", "MPO") and data.count(START_OF_SCAN) > MAX_JPEG_SCANS:
        raise unfit(
            param,
            f"has {data.count(START_OF_SCAN)} JPEG scans, but may have at most {MAX_JPEG_SCANS}",
            "Save it as a baseline JPEG",
        )
    return width, height


def _too_many_pixels(param: str, what: str, settings: MediaSettings) -> RequestRefused:
    return unfit(param, f"has {what}, but may have at most {settings.max_image_pixels}", "Send a smaller picture")


def unfit(param: str, what: str, remedy: str) -> RequestRefused:
    """The refusal of media for what they are.

    Args:
        param: the request's field that holds them.
        what: value and rule.
        remedy: what to send instead.
    """
    return RequestRefused(f"{param} {what}. {remedy}.", param=param)


def said(error: Exception) -> str:
    """What a decoder said of broken data, which may have written into it."""
    return str(error)[:MAX_SAID_CHARS] or type(error).__name__
