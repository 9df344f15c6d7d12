"""The whole corpus and hostile addresses through HTTP: no 5xx, the refusal names the field, the engine goes on."""

import base64
import json

import httpx
import pytest
from PIL import Image

from tests.server.harness import encoded, picture, question, running_server
from tests.server.media import corpus
from tests.server.media.conftest import WebServer, running


def ask(server, *media: dict, **fields: object) -> httpx.Response:
    body = {"model": "demo", "max_tokens": 2, "messages": question(*media), **fields}
    return server.post("chat/completions", json.dumps(body))


def image(url: str) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


def assert_refused(response: httpx.Response, param: str, text: str, status: int = 400) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (status, param, status), error
    assert text in error["message"]
    assert " at 0x" not in error["message"], "an address of the process helps to break into it"
    assert len(error["message"]) < 400


@pytest.fixture(scope="module", autouse=True)
def _engine_goes_on(server, about_picture):
    """After all of it the server answers as before."""
    yield
    response = server.post("chat/completions", json.dumps({"model": "demo", "messages": about_picture}))
    assert response.json()["choices"][0]["message"]["content"] == "red"
    assert server.is_idle()


@pytest.mark.parametrize("case", corpus.CASES, ids=lambda case: case.name)
def test_corpus(server, case):
    response = ask(server, case.content)
    if case.refused is None:
        assert response.status_code == 200, response.text[:300]
        assert response.json()["usage"]["prompt_tokens"] > 4
    else:
        assert_refused(response, f"{case.kind}_url", case.refused)


def test_a_shape_that_the_model_cannot_take(server):
    """vLLM's own answer to what the model's processor refuses: an aspect ratio here."""
    needle = corpus.saved(Image.new("RGB", (10_000, 1)), "PNG")
    response = ask(server, image("data:image/png;base64," + base64.b64encode(needle).decode()))
    assert response.status_code == 400
    assert "Failed to apply" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:80/", "public addresses"),
        ("http://localhost/", "public addresses"),
        ("http://169.254.169.254/latest/meta-data/iam/", "public addresses"),
        ("http://[::ffff:169.254.169.254]/", "public addresses"),
        ("http://127.0.0.1\\@1.1.1.1/", "backslash"),
        ("http://2130706433/", "usual form"),
        ("http://user:secret@1.1.1.1/", "user name or password"),
        ("http://1.1.1.1:22/", "must use port"),
        ("file:///etc/passwd", "no local files"),
        ("gopher://127.0.0.1/", "http, https"),
        ("data:image/png,x", "base64"),
        ("x", "http, https"),
    ],
)
@pytest.mark.parametrize("kind", ["image_url", "video_url"])
def test_addresses(server, url, text, kind):
    assert_refused(ask(server, {"type": kind, kind: {"url": url}}), kind, text)


def test_the_server_cannot_be_made_to_ask_itself(server):
    assert_refused(ask(server, image(f"{server.url}/secret-path")), "image_url", "must use port 80 or 443")
    assert "secret-path" not in server.log.read_text()


def test_responses_and_batches_pass_the_same_gate(server):
    content = [{"type": "input_image", "image_url": "http://127.0.0.1/", "detail": "auto"}]
    body = {"model": "demo", "input": [{"role": "user", "content": content}]}
    assert_refused(server.post("responses", json.dumps(body)), "image_url", "public addresses")
    body = {"model": "demo", "messages": [question(image("http://127.0.0.1/"))]}
    assert_refused(server.post("chat/completions/batch", json.dumps(body)), "image_url", "public addresses")


def test_too_many_pictures_are_refused_before_one_is_read(server):
    """The demo's limit is 8; what they are does not matter."""
    response = ask(server, *[image("http://127.0.0.1/")] * 9)
    assert response.status_code == 400
    assert "At most 8 image(s)" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"mm_processor_kwargs": {"size": {"longest_edge": 10**9}}},
        {"media_io_kwargs": {"video": {"num_frames": -1}}},
    ],
)
def test_keywords_for_the_processor_are_refused(server, about_picture, fields):
    """vLLM's own check."""
    response = server.post("chat/completions", json.dumps({"model": "demo", "messages": about_picture, **fields}))
    assert_refused(response, next(iter(fields)), "disabled by default")


def test_embeddings_are_refused(server):
    """vLLM's own check: they would be unpickled."""
    part = {"type": "image_embeds", "image_embeds": base64.b64encode(b"cos\nsystem\n(S'x'\ntR.").decode()}
    assert_refused(ask(server, part), "image_embeds", "--enable-mm-embeds")


def test_names_for_media_are_refused(server, picture_url):
    assert_refused(ask(server, {**image(picture_url), "uuid": "a"}), "uuid", "--allow-media-uuids")
    assert_refused(ask(server, {"type": "image_url", "image_url": None, "uuid": "a"}), "uuid", "--allow-media-uuids")
    body = {"model": "demo", "messages": question({**image(picture_url), "uuid": "a"})}
    counted = httpx.post(f"{server.url}/tokenize", json=body, timeout=60)
    assert_refused(counted, "uuid", "--allow-media-uuids")


@pytest.fixture(scope="module")
def neighbour():
    """A web server that an operator trusts."""
    servers = running(WebServer)
    yield next(servers)
    servers.close()


@pytest.fixture(scope="module")
def trusting(tmp_path_factory, neighbour):
    """A server that may fetch from it, with one redirect, and read one folder."""
    folder = tmp_path_factory.mktemp("trusting")
    (folder / "red.png").write_bytes(encoded(picture("red"), "PNG"))
    options = {
        "trusted_media_hosts": ["127.0.0.0/8", "localhost"],
        "media_ports": [neighbour.port],
        "max_media_redirects": 1,
        "media_timeout_s": 2,
        "allowed_local_media_path": folder,
        "max_image_pixels": 224 * 224,
        "max_video_pixels": 4 * 224 * 224,
        "max_decoded_pixels": 4 * 224 * 224,
    }
    with running_server(folder / "log.txt", **options) as server:
        yield server


def test_a_trusted_neighbour_and_a_folder(trusting, neighbour):
    for url in (
        neighbour.url("/picture"),
        neighbour.url("/picture", "localhost"),
        neighbour.url("/to//picture"),
        f"file://{trusting.log.parent}/red.png",
    ):
        assert ask(trusting, image(url)).status_code == 200, url
    response = ask(trusting, {"type": "video_url", "video_url": {"url": neighbour.url("/video")}})
    assert response.status_code == 200


def test_the_answer_is_that_of_the_same_picture_sent_along(trusting, neighbour):
    sent = base64.b64encode(corpus.saved(corpus.gradient(), "PNG")).decode()
    urls = (neighbour.url("/picture"), f"data:image/png;base64,{sent}")
    by_url, inline = (ask(trusting, image(url), sparsity_p=0.6).json() for url in urls)
    assert by_url["choices"][0]["message"] == inline["choices"][0]["message"]
    assert by_url["usage"]["sparsity"] == inline["usage"]["sparsity"]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/to/http://169.254.169.254:{port}/", 400, "public addresses"),
        ("/loop/0", 400, "at most 1 redirects"),
        ("/endless/", 400, "bytes"),
        ("/drip/", 422, "not there within 2.0 s"),
        ("/status/404", 422, "HTTP 404"),
        ("/status/500", 422, "HTTP 500"),
        ("/zipped/", 422, "content encoding"),
    ],
)
def test_what_a_neighbour_may_not_do(trusting, neighbour, path, status, text):
    url = neighbour.url(path.format(port=neighbour.port))
    assert_refused(ask(trusting, image(url)), "image_url", text, status)


def test_pictures_of_one_request_have_so_many_pixels_together(trusting, picture_url):
    """And give them back: the next request may have as many."""
    for _ in range(3):
        assert_refused(ask(trusting, *[image(picture_url)] * 5), "image_url", "brings the pixels of this request to")
        assert ask(trusting, *[image(picture_url)] * 4, sparsity_p=1).status_code == 200


def test_options_reach_the_gate(trusting, neighbour):
    large = corpus.saved(Image.new("RGB", (225, 224)), "PNG")
    response = ask(trusting, image("data:image/png;base64," + base64.b64encode(large).decode()))
    assert_refused(response, "image_url", "225 x 224 pixels, but may have at most 50176")
    assert_refused(ask(trusting, image("http://127.0.0.1:80/")), "image_url", f"must use port {neighbour.port}")
    assert_refused(
        ask(trusting, image(f"file://{trusting.log.parent}/../x.png")), "image_url", "--allowed-local-media-path"
    )
