"""Hostile and unusual media, made anew by each run: `python -m tests.server.media.corpus FOLDER` writes them to files.

Each case says what a server with default limits must do with it.
"""

import base64
import io
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CHUNK_HEADER = struct.Struct(">I4s")


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        name: of the case.
        make: its bytes.
        kind: `image` or `video`.
        media_type: for a data URL.
        refused: part of the refusal; None where it must be answered.
    """

    name: str
    make: Callable[[], bytes]
    kind: str
    media_type: str
    refused: str | None = None

    @property
    def content(self) -> dict:
        """The part of a chat message that holds it."""
        url = f"data:{self.media_type};base64,{base64.b64encode(self.make()).decode()}"
        return {"type": f"{self.kind}_url", f"{self.kind}_url": {"url": url}}


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def gradient(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture from dark to light."""
    row = np.linspace(0, 255, size[0]).astype(np.uint8)
    return Image.fromarray(np.tile(row, (size[1], 1))).convert(mode)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return CHUNK_HEADER.pack(len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, extra: bytes = b"") -> bytes:
    """A grey PNG of any claimed size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = _png_chunk(b"IHDR", header) + extra + _png_chunk(b"IDAT", data) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@cache
def png_bomb() -> bytes:
    """12,000 x 12,000 pixels, all there, in less than one MiB: 432 MB as RGB."""
    compressor = zlib.compressobj(1)
    rows = bytes(12_001 * 100)
    return png(12_000, 12_000, b"".join(compressor.compress(rows) for _ in range(120)) + compressor.flush())


@cache
def png_text_bomb() -> bytes:
    """A text chunk that grows to 16 MiB."""
    text = _png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(16 << 20), 1))
    return png(8, 8, zlib.compress(b"\0" * 72), extra=text)


def jpeg_scan_bomb(num_scans: int = 2000) -> bytes:
    """A progressive JPEG whose last scan, a few bytes, is repeated: each repetition passes over the whole picture."""
    data = saved(Image.new("L", (1024, 1024), 128), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * num_scans + data[-2:]


def jpeg_of_claimed_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(saved(gradient("L"), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def sixteen_bits() -> bytes:
    """Grey, 16 bits: Pillow's own conversion to 8 bits makes nearly all of it white."""
    row = np.linspace(0, 65_535, 96).astype(np.uint16)
    return saved(Image.fromarray(np.tile(row, (64, 1))), "PNG")


def sideways() -> bytes:
    """A wide picture that EXIF turns upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(gradient(), "JPEG", exif=exif)


def animated(file_format: str) -> bytes:
    """Three frames in one picture."""
    return saved(
        gradient(), file_format, save_all=True, append_images=[Image.new("RGB", (96, 64), c) for c in ("red", "blue")]
    )


@cache
def video(
    suffix: str = "avi", codec: str = "MJPG", num_frames: int = 6, size: tuple[int, int] = (64, 64), fps: float = 4.0
) -> bytes:
    """A video of noise that grows lighter."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video.{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
        assert writer.isOpened(), f"OpenCV cannot write {codec} into {suffix}"
        noise = np.random.default_rng(0).integers(0, 40, (size[1], size[0], 3))
        for number in range(num_frames):
            writer.write((noise + 180 * number // num_frames).astype(np.uint8))
        writer.release()
        return path.read_bytes()


def video_of_claimed_size() -> bytes:
    """An AVI of a few kB whose frames claim 60,000 x 60,000 pixels, in the container and in every JPEG."""
    data = bytearray(video())
    at = data.index(b"strf") + 12
    data[at : at + 8] = struct.pack("<ii", 60_000, 60_000)
    while (at := data.find(b"\xff\xc0", at)) >= 0:
        data[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
        at += 2
    return bytes(data)


def video_that_seeks_before_its_beginning() -> bytes:
    """An AVI with bytes too many between two chunks: what follows is read as a chunk of a negative length."""
    data = video()
    return data[:10_289] + bytes(15) + data[10_289:]


def video_with_growing_frames() -> bytes:
    """An AVI that is 64 x 64 pixels large, until its third frame."""
    data, at = bytearray(video()), 0
    for number in range(6):
        at = data.index(b"00dc", at) + 4
        size = struct.unpack_from("<I", data, at)[0]
        if number >= 2:
            frame = saved(Image.new("RGB", (128, 128), "red"), "JPEG", quality=1)
            assert len(frame) <= size, "the frame does not fit the one that it replaces"
            data[at + 4 : at + 4 + size] = frame.ljust(size, b"\0")
        at += 4 + size
    return bytes(data)


def playlist(kind: str, address: str = "http://127.0.0.1:9/x.ts") -> bytes:
    """A text that FFmpeg would take for a video and that names an address to read."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{address}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    }[kind].encode()


def _image(name: str, make: Callable[[], bytes], media_type: str = "image/png", refused: str | None = None) -> Case:
    return Case(name, make, "image", media_type, refused)


def _video(name: str, make: Callable[[], bytes], refused: str | None = None) -> Case:
    return Case(name, make, "video", "video/mp4", refused)


IMAGES = (
    _image("1x1", lambda: saved(Image.new("RGB", (1, 1)), "PNG")),
    _image("grey", lambda: saved(gradient("L"), "PNG")),
    _image("palette-transparent", lambda: saved(gradient("P"), "PNG", transparency=0)),
    _image("alpha", lambda: saved(gradient("RGBA"), "PNG")),
    _image("one-bit", lambda: saved(gradient("1"), "PNG")),
    _image("16-bit", sixteen_bits),
    _image("cmyk", lambda: saved(gradient("CMYK"), "JPEG"), "image/jpeg"),
    _image("exif-rotated", sideways, "image/jpeg"),
    _image("progressive", lambda: saved(gradient(), "JPEG", progressive=True), "image/jpeg"),
    _image("webp", lambda: saved(gradient(), "WEBP"), "image/webp"),
    _image("wrong-type", lambda: saved(gradient(), "PNG"), "text/html"),
    _image("animated-gif", lambda: animated("GIF"), "image/gif", "3 frames"),
    _image("animated-webp", lambda: animated("WEBP"), "image/webp", "3 frames"),
    _image("animated-png", lambda: animated("PNG"), "image/png", "3 frames"),
    _image("bomb", png_bomb, refused="pixels"),
    _image("claimed-size-png", lambda: png(2**31 - 1, 2**31 - 1, b""), refused="pixels"),
    _image("claimed-size-jpeg", lambda: jpeg_of_claimed_size(65_000, 65_000), "image/jpeg", "pixels"),
    _image("text-bomb", png_text_bomb, refused="broken header"),
    _image("scan-bomb", jpeg_scan_bomb, "image/jpeg", "JPEG scans"),
    _image("truncated-png", lambda: saved(gradient(), "PNG")[:-60], refused="cannot be decoded"),
    _image("truncated-jpeg", lambda: saved(gradient(), "JPEG")[:500], "image/jpeg", "image_url"),
    _image("one-byte", lambda: b"\x89", refused="no picture"),
    _image(
        "svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///x"/></svg>', refused="no picture"
    ),
    _image("eps", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) show\n", refused="no picture"),
)
VIDEOS = (
    _video("mjpeg-avi", video),
    _video("mpeg4-mp4", lambda: video("mp4", "mp4v")),
    _video("vp8-webm", lambda: video("webm", "VP80")),
    _video("vp9-webm", lambda: video("webm", "VP90")),
    _video("broken-frames", lambda: video()[:3000] + bytes(200) + video()[3200:]),
    _video("jpeg2000", lambda: video("mov", "mjp2"), "codec"),
    _video("ffv1-mp4", lambda: video("mp4", "FFV1")),
    _video("huffyuv", lambda: video("mkv", "HFYU"), "codec"),
    _video("long", lambda: video(fps=0.004), "lasts"),
    _video("frame-flood", lambda: video("mp4", "mp4v", num_frames=40_000, size=(16, 16), fps=60.0), "40000 frames"),
    _video("claimed-size", video_of_claimed_size, "video_url"),
    _video("growing-frames", video_with_growing_frames),
    _video("seeks-before-its-beginning", video_that_seeks_before_its_beginning),
    _video("header-only", lambda: video("mp4", "mp4v")[:40], "video_url"),
    _video("no-video", lambda: b"\0" * 4096, "container"),
    _video("picture", lambda: saved(gradient(), "PNG"), "container"),
    _video("hls", lambda: playlist("hls"), "container"),
    _video("concat", lambda: playlist("concat"), "container"),
    _video("sdp", lambda: playlist("sdp"), "container"),
)
CASES = IMAGES + VIDEOS


def main(folder: str) -> None:
    """Write every case to a file, for use with other tools."""
    for case in CASES:
        (Path(folder) / case.name).write_bytes(case.make())


if __name__ == "__main__":
    main(sys.argv[1])
