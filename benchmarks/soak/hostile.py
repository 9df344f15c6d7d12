"""Requests that must be refused: hostile media, and fields that break a rule. Each says what the refusal must name."""

import base64
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

# What a refusal of each may be: a field that breaks a rule is 400, a model that is not there 404.
BAD_REQUEST, NOT_FOUND = 400, 404


@dataclass(frozen=True, slots=True)
class Refused:
    """One way to be refused.

    Attributes:
        fields: that replace those of a good chat request.
        param: the field that the refusal names; None where vLLM names none.
        status: of HTTP.
    """

    fields: Mapping[str, Any]
    param: str | None
    status: int = BAD_REQUEST


def _saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _noise(size: int = 64) -> Image.Image:
    return Image.effect_noise((size, size), 60).convert("RGB")


def _giant_png() -> bytes:
    """A few bytes that claim 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    data = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(data)


def _animated() -> bytes:
    return _saved(_noise(), "GIF", save_all=True, append_images=[_noise(), _noise()])


MEDIA: Mapping[str, Callable[[], bytes]] = {
    "giant": _giant_png,
    "truncated": lambda: _saved(_noise(), "PNG")[:-60],
    "animated": _animated,
    "text": lambda: b"no picture at all",
    "empty": lambda: b"",
}
ADDRESSES = (
    "http://127.0.0.1/a.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:10.0.0.1]/a.png",
    "http://user:secret@1.1.1.1/a.png",
    "file:///etc/passwd",
    "gopher://1.1.1.1/",
    "data:image/png,x",
)


def _asking(kind: str, url: str) -> Refused:
    part = {"type": kind, kind: {"url": url}}
    content = [part, {"type": "text", "text": "What is it?"}]
    return Refused({"messages": [{"role": "user", "content": content}]}, kind)


@cache
def hostile_media() -> list[Refused]:
    """Files and addresses, each as a picture and as a video."""
    urls = [f"data:image/png;base64,{base64.b64encode(make()).decode()}" for make in MEDIA.values()]
    return [_asking(kind, url) for kind in ("image_url", "video_url") for url in (*urls, *ADDRESSES)]


@cache
def bad_fields() -> list[Refused]:
    """One rule broken by each; rules of every selection mode."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "a" * 2000}}}
    json_schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return [
        *(Refused({"sparsity_p": value}, "sparsity_p") for value in (0, 1.5, -1, "0.9", True, [0.9], float("nan"))),
        Refused({"sparsity": 0.9}, "sparsity"),
        Refused({"extra_body": {"sparsity_p": 0.9}}, "extra_body"),
        Refused({"vllm_xargs": {"sparsity_p": 0.9}}, "vllm_xargs"),
        Refused({"sparsity_p": 0.9, "use_beam_search": True, "n": 2}, "sparsity_p"),
        Refused({"model": "demo@p=2"}, "model"),
        Refused({"model": "nobody"}, "model", NOT_FOUND),
        Refused({"n": 100_000}, "n"),
        Refused({"n": 0}, None),
        Refused({"max_tokens": -1}, None),
        Refused({"max_tokens": 1_000_000}, None),
        Refused({"temperature": "hot"}, None),
        Refused({"top_logprobs": 10_000, "logprobs": True}, None),
        Refused({"stop": ["a"] * 100}, None),
        Refused({"stop": ["a" * 5000]}, "stop"),
        Refused({"bad_words": ["a"] * 5000}, "bad_words"),
        Refused({"response_format": json_schema}, None),
        Refused({"messages": []}, None),
        Refused({"messages": [{"role": "user", "content": "a b c d " * 2000}]}, None),
    ]
