"""Pictures: what unusual ones look like to the model, and that hostile ones are refused before they are decoded."""

from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from vllm.multimodal.media.image import ImageMediaIO

from server.errors import RequestRefused
from server.media.images import CheckedImageIO, check_picture
from server.media.settings import MediaSettings
from tests.server.media import corpus


def loaded(data: bytes, **settings: object) -> Image.Image:
    """A picture as the model's processor gets it."""
    media_io = CheckedImageIO()
    media_io.settings = MediaSettings(**settings)
    return media_io.load_bytes(data).media


def left_and_right(picture: Image.Image) -> tuple[float, float]:
    """Mean brightness of the first and the last column."""
    values = np.asarray(picture.convert("L"), dtype=float)
    return values[:, 0].mean(), values[:, -1].mean()


@pytest.mark.parametrize("case", [case for case in corpus.IMAGES if case.refused is None], ids=lambda case: case.name)
def test_unusual_pictures_are_decoded_to_rgb(case):
    assert loaded(case.make()).mode == "RGB"


@pytest.mark.parametrize("case", [case for case in corpus.IMAGES if case.refused], ids=lambda case: case.name)
def test_hostile_pictures_are_refused(case):
    with pytest.raises(RequestRefused, match=case.refused) as refusal:
        loaded(case.make())
    assert refusal.value.parameter == "image_url"


@pytest.mark.parametrize("case", ["bomb", "claimed-size-png", "claimed-size-jpeg", "text-bomb", "scan-bomb"])
def test_bombs_are_refused_by_their_headers(case, monkeypatch):
    """Nothing is decoded: vLLM's loader is not even asked."""
    monkeypatch.setattr(ImageMediaIO, "load_bytes", lambda *_: pytest.fail("decoded"))
    data = next(one for one in corpus.IMAGES if one.name == case).make()
    with pytest.raises(RequestRefused):
        loaded(data)


def test_sixteen_bits_keep_their_greys():
    """Pillow's conversion alone makes them white."""
    left, right = left_and_right(loaded(corpus.sixteen_bits()))
    assert left < 2
    assert right > 253


def test_cmyk_keeps_its_greys():
    left, right = left_and_right(loaded(corpus.saved(corpus.gradient("CMYK"), "JPEG")))
    assert left < 20
    assert right > 235


def test_exif_turns_a_picture():
    picture = loaded(corpus.sideways())
    assert picture.size == (64, 96)
    values = np.asarray(picture.convert("L"), dtype=float)
    assert values[0].mean() < 20
    assert values[-1].mean() > 235


def test_pixels_up_to_the_limit():
    data = corpus.saved(Image.new("L", (100, 50)), "PNG")
    assert loaded(data, max_image_pixels=5000).size == (100, 50)
    with pytest.raises(RequestRefused, match="100 x 50 pixels, but may have at most 4999"):
        loaded(data, max_image_pixels=4999)


def test_bytes_up_to_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024), np.uint8)
    data = corpus.saved(Image.fromarray(noise), "BMP")
    assert loaded(data, max_image_mib=2).size == (1024, 1024)
    with pytest.raises(RequestRefused, match=f"{len(data)} bytes, but may have at most {1 << 20}"):
        loaded(data, max_image_mib=1)


def test_jpeg_scans_up_to_the_limit():
    ordinary = corpus.saved(corpus.gradient(), "JPEG", progressive=True)
    num_scans = ordinary.count(b"\xff\xda")
    check_picture(corpus.jpeg_scan_bomb(100 - num_scans), MediaSettings(), "image_url")
    with pytest.raises(RequestRefused, match="JPEG scans"):
        check_picture(corpus.jpeg_scan_bomb(110), MediaSettings(), "image_url")


def test_formats_are_a_choice():
    tiff = corpus.saved(corpus.gradient(), "TIFF")
    with pytest.raises(RequestRefused, match="JPEG, PNG, WEBP, GIF, BMP"):
        loaded(tiff)
    assert loaded(tiff, image_formats=("TIFF",)).size == (96, 64)
    with pytest.raises(RequestRefused, match="is served: TIFF"):
        loaded(corpus.saved(corpus.gradient(), "PNG"), image_formats=("TIFF",))


def test_floats_have_no_range():
    tiff = corpus.saved(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF")
    with pytest.raises(RequestRefused, match="mode F"):
        loaded(tiff, image_formats=("TIFF",))


def test_any_beginning_of_a_picture_is_refused_or_decoded():
    """Cut everywhere: no other exception than the refusal comes out."""
    for data in (corpus.saved(corpus.gradient(), "WEBP"), corpus.animated("GIF"), corpus.sideways()):
        for length in range(0, len(data), max(1, len(data) // 60)):
            with suppress(RequestRefused):
                loaded(data[:length])
