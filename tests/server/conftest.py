"""One real server process for all HTTP tests, and the pictures they ask about."""

import base64
import os
from collections.abc import Callable, Iterator

import openai
import pytest

from attention_backend import SparsityReport
from server.media.startup import ENVIRONMENT
from tests.server.guarded import KEY_FILE, OPTIONS
from tests.server.harness import Server, encoded, picture, question, running_server, video_url_of


@pytest.fixture(autouse=True)
def _environment_is_left() -> Iterator[None]:
    """A start in this process sets variables for its own videos; other tests read other ones."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server


@pytest.fixture(scope="session")
def guarded(tmp_path_factory) -> Iterator[Server]:
    """A server that asks for keys and has tight limits; KEYS and LIMITS of tests/server/guarded.py."""
    folder = tmp_path_factory.mktemp("guarded")
    key_file = folder / "keys.toml"
    key_file.write_text(KEY_FILE)
    with running_server(folder / "log.txt", api_keys_file=key_file, **OPTIONS) as server:
        yield server


@pytest.fixture(scope="session")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def picture_png() -> bytes:
    return encoded(picture("red"), "PNG")


@pytest.fixture(scope="session")
def picture_url(picture_png) -> str:
    return "data:image/png;base64," + base64.b64encode(picture_png).decode()


@pytest.fixture(scope="session")
def video_url() -> str:
    return video_url_of([picture(color, 112) for color in ("red", "red", "blue", "blue")])


@pytest.fixture(scope="session")
def about_picture(picture_url) -> list[dict]:
    """Messages that ask about one picture."""
    return question({"type": "image_url", "image_url": {"url": picture_url}})


@pytest.fixture
def make_report() -> Callable[..., SparsityReport]:
    """Reports of one prompt of 100 tokens in two layers that kept 30 and 50, with changes."""

    def make(**changes) -> SparsityReport:
        fields = {
            "sparsity_p": 0.9,
            "selection": "zipvl",
            "token_ratio": 0.4,
            "kv_ratio": 0.5,
            "kept_tokens_per_layer": [30, 50],
            "num_prompt_tokens": 100,
            "freed_blocks": 4,
        }
        return SparsityReport(**{**fields, **changes})

    return make
