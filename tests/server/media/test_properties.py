"""Any URL, any address, any change of a picture's or a video's bytes: taken within the limits or refused by name.

`pytest --hypothesis-profile=wide tests/server/media/test_properties.py` draws 2,000 for each test.
"""

import ipaddress
import struct
import zlib
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vllm.multimodal.media.image import ImageMediaIO
from vllm.multimodal.media.video import VideoMediaIO

from server.errors import RequestRefused
from server.media.addresses import TrustedHosts, is_public
from server.media.images import CheckedImageIO
from server.media.settings import MediaSettings
from server.media.startup import ENVIRONMENT
from server.media.urls import MediaURL
from server.media.videos import CheckedVideoIO
from server.vllm_hooks import become
from tests.server.media import corpus
from tests.server.outcomes import can_be_sent, outcome
from tests.server.strategies import texts

SETTINGS = MediaSettings(max_image_pixels=1 << 16, max_video_frames=100, max_video_pixels=1 << 20)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


hosts = st.one_of(
    st.sampled_from(["example.org", "127.0.0.1", "[::1]", "[::ffff:7f00:1]", "0x7f.1", "2130706433", "bücher.de"]),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
    st.text(st.sampled_from("aZ0.-_%[]:@①Ａ"), max_size=12),
)  # fmt: skip
urls = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http:", "https:", "HTTP:", "file:", "data:", "ftp:", "", "http"]),
        st.sampled_from(["//", "/", "///", "\\\\", "//user@", "//u:p@", "//a\\@", ""]),
        hosts,
        st.sampled_from(["", ":80", ":443", ":0", ":65536", ":", ":8x", ":٨٠"]),
        st.sampled_from(["", "/", "/a?b#c", "?x", "#@127.0.0.1", "/../x", "\\@127.0.0.1", "/ä", "\t/", "%00"]),
    ),
)


@given(urls | texts)
@example("http://example.org#@127.0.0.1/")
def test_a_url_that_is_taken_reads_alike_to_another_parser(text):
    url, refused = outcome(RequestRefused, MediaURL.parse, text, "image_url")
    if refused:
        assert refused.parameter == "image_url"
        assert refused.message.startswith("image_url is ")
        assert can_be_sent(refused.message)
        return
    other = urlsplit(text)
    assert other.scheme == url.scheme
    assert (other.username, other.password) == (None, None)
    assert ({"http": 80, "https": 443}[url.scheme] if other.port is None else other.port) == url.port
    if url.address is not None:
        assert ipaddress.ip_address(other.hostname.removesuffix(".")) == url.address
    elif other.hostname.isascii():
        assert other.hostname.removesuffix(".") == url.host
    assert b"@" not in url.netloc
    assert not set(url.netloc + url.target) & set(b"\r\n \t\\")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_of_another_is_no_way_around(address):
    number = int(address)
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        carrier = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + number)
        assert is_public(carrier) == is_public(address)
    for prefix, shift in (("2002::", 80), ("::", 0), ("2001::", 0), ("64:ff9b:1::", 0), ("fe80::", 0)):
        assert not is_public(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + (number << shift)))


@given(st.ip_addresses())
def test_a_public_address_is_public_to_the_standard_library_too(address):
    if is_public(address):
        inner = address.ipv4_mapped if address.version == 6 else None
        standard = inner or address
        names = ("is_private", "is_loopback", "is_link_local", "is_multicast", "is_unspecified")
        assert not any(getattr(standard, name) for name in names)


@given(st.lists(texts | st.ip_addresses().map(str), max_size=3))
def test_trusted_hosts_are_read_or_refused(entries):
    trusted, refused = outcome(ValueError, TrustedHosts.of, entries)
    if not refused:
        assert len(trusted.networks) + len(trusted.names) <= len(entries)
        assert "" not in trusted.names


def load_image(data: bytes):
    loader = ImageMediaIO()
    become(loader, CheckedImageIO)
    loader.settings, loader.param = SETTINGS, "image_url"
    return loader.load_bytes(data).media


def load_video(data: bytes):
    loader = VideoMediaIO(ImageMediaIO(), num_frames=4, video_backend="qwen2_vl")
    become(loader, CheckedVideoIO)
    loader.settings, loader.param = SETTINGS, "video_url"
    become(loader.image_io, CheckedImageIO)
    loader.image_io.settings, loader.image_io.param = SETTINGS, "video_url"
    return loader.load_bytes(data).media[0]


@given(width=st.integers(0, 2**32 - 1) | st.integers(0, 600), height=st.integers(0, 2**32 - 1) | st.integers(0, 600))
@example(width=256, height=256)
@example(width=256, height=257)
def test_the_size_in_a_header_decides_before_anything_is_decoded(width, height):
    is_small = 0 < width * height <= SETTINGS.max_image_pixels
    rows = zlib.compress(bytes((width + 1) * height)) if is_small else b""
    data = corpus.png(min(width, 2**32 - 1), min(height, 2**32 - 1), rows)
    if is_small:
        assert load_image(data).size == (width, height)
    else:
        with pytest.raises(RequestRefused) as refused:
            load_image(data)
        assert refused.value.parameter == "image_url"


PICTURES = [
    corpus.saved(corpus.gradient(), "PNG"),
    corpus.saved(corpus.gradient(), "JPEG"),
    corpus.saved(corpus.gradient(), "JPEG", progressive=True),
    corpus.saved(corpus.gradient("P"), "GIF"),
    corpus.saved(corpus.gradient(), "WEBP"),
    corpus.saved(corpus.gradient(), "BMP"),
    corpus.saved(corpus.gradient("CMYK"), "JPEG"),
    corpus.sixteen_bits(),
    corpus.sideways(),
    corpus.animated("GIF"),
]
VIDEOS = [corpus.video(), corpus.video("mp4", "mp4v"), corpus.video("webm", "VP80"), corpus.video("mkv", "MJPG")]


@st.composite
def damaged(draw, files: list[bytes]) -> bytes:
    """A file with some bytes changed, most of them near its beginning, some cut out, some put in."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 4))):
        near = draw(st.booleans())
        at = draw(st.integers(0, min(len(data), 200 if near else len(data)) - 1))
        kind = draw(st.sampled_from(["change", "long", "cut", "put"]))
        if kind == "change":
            data[at] = draw(st.integers(0, 255))
        elif kind == "long":
            data[at : at + 4] = struct.pack(">I", draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 65_535])))
        elif kind == "put":
            data[at:at] = draw(st.binary(max_size=16))
        elif at > 0:
            del data[at:]
    return bytes(data)


@given(damaged(PICTURES) | st.binary(max_size=64))
def test_a_damaged_picture_is_decoded_within_the_limits_or_refused(data):
    picture, refused = outcome(RequestRefused, load_image, data)
    if refused:
        assert refused.parameter == "image_url"
        assert refused.message.startswith("image_url ")
        assert can_be_sent(refused.message)
    else:
        assert picture.mode == "RGB"
        assert 0 < picture.width * picture.height <= SETTINGS.max_image_pixels


@settings(max_examples=max(1, settings().max_examples // 2))
@given(damaged(VIDEOS) | st.binary(max_size=64))
def test_a_damaged_video_is_decoded_within_the_limits_or_refused(data):
    frames, refused = outcome(RequestRefused, load_video, data)
    if refused:
        assert refused.parameter == "video_url"
        assert refused.message.startswith("video_url ")
        assert can_be_sent(refused.message)
    else:
        assert len(frames) >= 1
        assert frames.shape[0] * frames.shape[1] * frames.shape[2] <= SETTINGS.max_video_pixels
