"""The options about media: defaults that are safe, and one sentence for what is wrong."""

import argparse

import pytest

from server.errors import InvalidServerSettings
from server.media.settings import HELP, MediaSettings, add_media_arguments

EVERY_OPTION = """
    --max-image-mib 1 --max-video-mib 2 --max-image-pixels 3 --max-video-frames 4 --max-video-s 5
    --max-video-pixels 6 --max-decoded-pixels 20 --max-decode-s 7 --image-formats PNG TIFF --media-ports 8 9
    --trusted-media-hosts 10.0.0.0/8 store --max-media-redirects 1 --media-timeout-s 11
    --max-media-fetches 12 --allow-media-uuids
"""


def parse(*argv: str) -> MediaSettings:
    parser = argparse.ArgumentParser()
    add_media_arguments(parser)
    return MediaSettings.from_args(parser.parse_args(argv))


def test_without_options_the_defaults_hold():
    assert parse() == MediaSettings()
    assert set(HELP) == set(MediaSettings.__dataclass_fields__)


def test_defaults_are_closed():
    settings = MediaSettings()
    assert settings.trusted_media_hosts == ()
    assert settings.max_media_redirects == 0
    assert not settings.allow_media_uuids


def test_every_option_is_read():
    settings = parse(*EVERY_OPTION.split())
    assert settings == MediaSettings(
        1, 2, 3, 4, 5.0, 6, 20, 7.0, ("PNG", "TIFF"), (8, 9), ("10.0.0.0/8", "store"), 1, 11.0, 12, True
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_image_mib", 0),
        ("max_video_mib", -1),
        ("max_image_pixels", 178_956_971),
        ("max_video_frames", 0),
        ("max_video_s", float("nan")),
        ("max_video_pixels", 0),
        ("max_decoded_pixels", (1 << 29) - 1),
        ("max_decode_s", float("inf")),
        ("image_formats", ()),
        ("image_formats", ("EPS",)),
        ("media_ports", (0,)),
        ("media_ports", ()),
        ("trusted_media_hosts", ("http://store",)),
        ("trusted_media_hosts", ("10.0.0.1/8",)),
        ("max_media_redirects", -1),
        ("media_timeout_s", 0),
        ("max_media_fetches", 0),
    ],
)
def test_values_out_of_range(name, value):
    with pytest.raises(InvalidServerSettings, match=f"--{name.replace('_', '-')} is .*, but .*"):
        MediaSettings(**{name: value})


@pytest.mark.parametrize("one", ["max_image_pixels", "max_video_pixels"])
def test_all_requests_together_have_room_for_one(one):
    MediaSettings(**{"max_image_pixels": 10, "max_video_pixels": 10, one: 20}, max_decoded_pixels=20)
    flags = f"^--max-decoded-pixels is 19, but must be at least --{one.replace('_', '-')}, which is 20"
    with pytest.raises(InvalidServerSettings, match=flags):
        MediaSettings(**{"max_image_pixels": 10, "max_video_pixels": 10, one: 20}, max_decoded_pixels=19)
