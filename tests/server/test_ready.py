"""The line to paste."""

import json
import shlex
from types import SimpleNamespace

import pytest

from attention_backend import SparsityConfig
from server import demo
from server.access.policies import read_policies
from server.access.settings import AccessSettings
from server.ready import base_url, curl, selection, warning
from server.settings import ServerSettings


def arguments(**changes):
    return SimpleNamespace(**{"host": "127.0.0.1", "port": 8000, "ssl_certfile": None, "uds": None, **changes})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("example.org", "http://example.org:8000"),
    ],
)
def test_url_that_a_local_client_reaches(host, url):
    assert base_url(arguments(host=host)) == url


def test_a_baseline_is_called_one():
    assert selection(SparsityConfig(selection="keys")) == "selection keys"
    assert selection(SparsityConfig(ranking="recent")) == "selection zipvl, baseline for benchmarks: ranking recent"


@pytest.mark.parametrize(
    ("host", "keys", "is_warned"),
    [("0.0.0.0", None, True), ("", None, True), ("10.1.2.3", None, True), ("0.0.0.0", "a=0123456789abcdef", False),
     ("127.0.0.1", None, False), ("::1", None, False)],
)  # fmt: skip
def test_who_opens_the_server_without_a_key_is_warned(host, keys, is_warned):
    settings = ServerSettings(access=AccessSettings(policies=read_policies(None, keys, [])))
    assert ("there is no API key" in warning(arguments(host=host), settings)) == is_warned


def test_image_request_comes_from_a_file_that_exists():
    words = shlex.split(curl(arguments(), with_image=True))
    file = words[words.index("-d") + 1]
    assert file == f"@{demo.REQUEST}"
    assert demo.REQUEST.is_absolute()
    body = json.loads(demo.REQUEST.read_text())
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/")
    assert "model" not in body


def test_text_model_gets_a_text_request():
    words = shlex.split(curl(arguments(), with_image=False))
    assert json.loads(words[-1])["messages"][0]["role"] == "user"


def test_key_socket_and_tls_show():
    words = shlex.split(curl(arguments(uds="/run/w.sock", ssl_certfile="c.pem"), with_image=True, with_key=True))
    assert "Authorization: Bearer YOUR_API_KEY" in words
    assert words[words.index("--unix-socket") + 1] == "/run/w.sock"
    assert any(word.startswith("https://") for word in words)
