"""What would have no effect beside our connector, or lead around it, stops the start."""

import argparse

import pytest

from server import command_line
from server.errors import InvalidServerSettings
from server.media.startup import ENVIRONMENT, REPLACED, check_media_options


def check(**options: object) -> None:
    check_media_options(argparse.Namespace(**{"allowed_local_media_path": "", "media_io_kwargs": {}, **options}))


def test_nothing_set():
    check()


@pytest.mark.parametrize("name", REPLACED)
def test_variables_that_have_no_effect(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(InvalidServerSettings, match=f"{name} is '1'.*nset it"):
        check()


def test_our_own_values_of_them(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    check()


def test_the_folder_of_local_media(tmp_path):
    check(allowed_local_media_path=str(tmp_path))
    with pytest.raises(InvalidServerSettings, match="must be a folder"):
        check(allowed_local_media_path=str(tmp_path / "missing"))


def test_other_decoders_have_no_limits(monkeypatch):
    check(media_io_kwargs={"video": {"num_frames": 8, "backend": "opencv"}})
    for video in ({"backend": "torchcodec"}, {"video_backend": "pynvvideocodec"}):
        with pytest.raises(InvalidServerSettings, match="OpenCV"):
            check(media_io_kwargs={"video": video})
    monkeypatch.setenv("VLLM_VIDEO_LOADER_BACKEND", "pynvvideocodec")
    with pytest.raises(InvalidServerSettings, match="VLLM_VIDEO_LOADER_BACKEND is pynvvideocodec"):
        check()


def test_the_command_line_limits_media_of_one_prompt(tmp_path):
    args, settings = command_line.parse(["--model", "a/b", "--max-media-redirects", "2"])
    assert args.limit_mm_per_prompt == {"image": 16, "video": 2, "audio": 2}
    assert settings.media.max_media_redirects == 2
    args, _ = command_line.parse(["--model", "a/b", "--limit-mm-per-prompt", '{"image": 40}'])
    assert args.limit_mm_per_prompt == {"image": 40}
