"""The line to paste."""

import json
import shlex
from types import SimpleNamespace

import pytest

from attention_backend import SparsityConfig
from server import demo
from server.ready import base_url, curl, selection


def arguments(**changes):
    return SimpleNamespace(
        **{"host": "127.0.0.1", "port": 8000, "ssl_certfile": None, "uds": None, "api_key": None, **changes}
    )


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
    words = shlex.split(curl(arguments(api_key=["k"], uds="/run/w.sock", ssl_certfile="c.pem"), with_image=True))
    assert "Authorization: Bearer YOUR_API_KEY" in words
    assert words[words.index("--unix-socket") + 1] == "/run/w.sock"
    assert any(word.startswith("https://") for word in words)
