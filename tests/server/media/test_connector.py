"""The connector as vLLM calls it: the same limits for http, data and file URLs, with a real web server."""

import asyncio
import base64
import os

import pytest
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY
from vllm.multimodal.media.connector import MediaConnector

from server.errors import MediaUnavailable, RequestRefused
from server.media.connector import CheckedMediaConnector, install
from server.media.settings import MediaSettings
from server.media.startup import CONNECTOR, ENVIRONMENT
from tests.server.media import corpus

PICTURE = corpus.saved(corpus.gradient(), "PNG")


@pytest.fixture
def connector(monkeypatch):
    """Makes the connector that vLLM would load for a request."""
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")  # install() writes them, and they must go again
    monkeypatch.setattr(MEDIA_CONNECTOR_REGISTRY, "name2class", dict(MEDIA_CONNECTOR_REGISTRY.name2class))

    def make(folder: str = "", domains: list[str] | None = None, **settings: object) -> CheckedMediaConnector:
        install(MediaSettings(**settings))
        return MEDIA_CONNECTOR_REGISTRY.load(
            os.environ["VLLM_MEDIA_CONNECTOR"], allowed_local_media_path=folder, allowed_media_domains=domains
        )

    return make


def image(connector: MediaConnector, url: str):
    return asyncio.run(connector.fetch_image_async(url))


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def test_vllm_loads_ours_and_opencv_gets_its_limits(connector):
    assert type(connector()) is CheckedMediaConnector
    assert os.environ["VLLM_MEDIA_CONNECTOR"] == CONNECTOR
    assert "format_whitelist" in os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"]


def test_all_ways_lead_to_the_same_picture(connector, web, tmp_path):
    (tmp_path / "a b.png").write_bytes(PICTURE)
    ours = connector(str(tmp_path), trusted_media_hosts=("127.0.0.1",), media_ports=(web.port,))
    urls = (
        data_url(PICTURE),
        web.url("/picture"),
        f"file://{tmp_path}/a%20b.png",
        f"file://localhost{tmp_path}/a b.png",
    )
    pictures = [image(ours, url).media.tobytes() for url in urls]
    assert pictures == [corpus.gradient().tobytes()] * 4
    assert ours.fetch_image(urls[1]).media.tobytes() == pictures[0]


@pytest.mark.parametrize("limit", [{"max_image_pixels": 6143}, {"image_formats": ("JPEG",)}])
def test_all_ways_have_the_same_limits(connector, web, tmp_path, limit):
    (tmp_path / "a.png").write_bytes(PICTURE)
    ours = connector(str(tmp_path), trusted_media_hosts=("127.0.0.1",), media_ports=(web.port,), **limit)
    messages = []
    for url in (data_url(PICTURE), web.url("/picture"), f"file://{tmp_path}/a.png"):
        with pytest.raises(RequestRefused) as refusal:
            image(ours, url)
        messages.append(str(refusal.value))
    assert len(set(messages)) == 1


def test_all_ways_have_the_same_limit_of_bytes(connector, web, tmp_path):
    data = bytes((1 << 20) + 1)
    (tmp_path / "a.png").write_bytes(data)
    ours = connector(str(tmp_path), trusted_media_hosts=("127.0.0.1",), media_ports=(web.port,), max_image_mib=1)
    for url in (data_url(data), web.url(f"/claims/{len(data)}"), web.url("/endless/"), f"file://{tmp_path}/a.png"):
        with pytest.raises(RequestRefused, match="at most 1048576 bytes"):
            image(ours, url)


def test_a_picture_of_just_the_limit_passes_the_check_of_bytes(connector):
    with pytest.raises(RequestRefused, match="no picture"):
        image(connector(max_image_mib=1), data_url(bytes(1 << 20)))


def test_private_addresses_are_refused_and_domains_are_kept(connector, web):
    with pytest.raises(RequestRefused, match="public addresses"):
        image(connector(media_ports=(web.port,)), web.url("/picture"))
    with pytest.raises(RequestRefused, match="--allowed-media-domains"):
        image(
            connector(domains=["pictures.example"], trusted_media_hosts=("127.0.0.1",), media_ports=(web.port,)),
            web.url("/picture"),
        )
    assert web.requests == []


def test_a_missing_picture_is_unavailable(connector, web):
    ours = connector(trusted_media_hosts=("127.0.0.1",), media_ports=(web.port,))
    with pytest.raises(MediaUnavailable, match="HTTP 404"):
        image(ours, web.url("/status/404"))


def test_videos_come_all_ways_too(connector, web):
    ours = connector(trusted_media_hosts=("127.0.0.1",), media_ports=(web.port,))
    for url in (data_url(corpus.video(), "video/x-msvideo"), web.url("/video")):
        assert asyncio.run(ours.fetch_video_async(url)).media[0].shape == (6, 64, 64, 3)
    with pytest.raises(RequestRefused, match="video_url"):
        asyncio.run(ours.fetch_video_async(data_url(PICTURE, "video/mp4")))


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,abc",
        "data:image/png;base64",
        "data:;base64,%%%%",
        "data:image/png;base64,A",
        "data:",
        "DATA:image/png;charset=utf-8,abc",
    ],
)
def test_broken_data_urls(connector, url):
    with pytest.raises(RequestRefused, match="image_url is"):
        image(connector(), url)


def test_no_files_by_default(connector, tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)
    with pytest.raises(RequestRefused, match="reads no local files"):
        image(connector(), f"file://{tmp_path}/a.png")


def test_files_outside_the_folder(connector, tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(PICTURE)
    (tmp_path / "media2").mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    ours = connector(str(folder))
    for path in ("../secret.png", "%2e%2e/secret.png", "link.png", "../media2/x", "../missing.png"):
        with pytest.raises(RequestRefused, match="below --allowed-local-media-path"):
            image(ours, f"file://{folder}/{path}")
    for url in ("file:///etc/passwd", f"file://other{folder}/a.png", f"FILE:{tmp_path}/secret.png"):
        with pytest.raises(RequestRefused, match="below --allowed-local-media-path"):
            image(ours, url)


def test_what_is_no_file_is_not_read(connector, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    ours = connector(str(tmp_path))
    for name in ("pipe", "folder", "missing", "nul%00"):
        with pytest.raises(RequestRefused, match="image_url is"):
            image(ours, f"file://{tmp_path}/{name}")


def test_media_without_limits_are_not_loaded(connector):
    with pytest.raises(TypeError, match="without limits"):
        asyncio.run(connector().load_from_url_async(data_url(PICTURE), object()))
