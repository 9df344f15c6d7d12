"""The layer that asks for keys, around a small application that says who called."""

import hmac
from dataclasses import replace

import anyio
import httpx
import pytest
from starlette.responses import PlainTextResponse

from server.access import keys as keys_module
from server.access.callers import anonymous, callers_of, current_caller
from server.access.keys import Keys
from server.access.policies import read_policies
from server.access.settings import AccessSettings
from server.settings import ServerSettings

KEYS = {"alice": "a" * 16, "bob": "b" * 16}
SETTINGS = ServerSettings(
    access=AccessSettings(policies=read_policies(None, " ".join(f"{name}={key}" for name, key in KEYS.items()), []))
)


async def who_called(scope, receive, send) -> None:
    await PlainTextResponse(current_caller().name)(scope, receive, send)


def guarded(settings: ServerSettings = SETTINGS) -> Keys:
    return Keys(who_called, callers_of(settings), anonymous(settings), frozenset({"/health"}))


def call(app, path: str = "/v1/models", method: str = "GET", root_path: str = "", headers=()) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path, headers=list(headers))

    return anyio.run(run)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    "form", [("Authorization", "Bearer {}"), ("authorization", "bEARER  {} "), ("X-Api-Key", "{}")]
)
def test_a_key_names_its_caller(name, form):
    response = call(guarded(), headers=[(form[0], form[1].format(KEYS[name]))])
    assert (response.status_code, response.text) == (200, name)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", f"Bearer {KEYS['alice'][:-1]}")],
        [("Authorization", f"Bearer {KEYS['alice']}a")],
        [("Authorization", f"Bearer {KEYS['alice'].upper()}")],
        [("Authorization", f"Basic {KEYS['alice']}")],
        [("Authorization", KEYS["alice"])],
        [("Authorization", f"Bearer {KEYS['alice']}"), ("Authorization", "Bearer nobody's")],
        [("Authorization", f"Bearer {KEYS['alice']}"), ("X-Api-Key", KEYS["bob"])],
        [("Cookie", f"Authorization=Bearer {KEYS['alice']}")],
        [(b"Authorization", b"Bearer \xff\xfe\x80")],
    ],
)
def test_no_key_no_answer(headers):
    response = call(guarded(), headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("AuthenticationError", "Authorization", 401)
    assert not any(key in response.text for key in KEYS.values())


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1/models", "/invocations", "/generative_scoring", "/tokenize", "/scale_elastic_ep", "/metrics", "/docs",
        "/nothing", "/health/", "//health", "/health/../v1/models", "/health%2f..%2fv1%2fmodels", "/HEALTH",
        "/health;x", "/health%00", "/health\\",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "TRACE", "PROPFIND"])
def test_whatever_is_not_open_asks_for_a_key(path, method):
    assert call(guarded(), path, method).status_code == 401


@pytest.mark.parametrize("root_path", ["", "/models"])
def test_an_open_path_does_not(root_path):
    assert call(guarded(), f"{root_path}/health", root_path=root_path).text == "anonymous"
    assert call(guarded(), f"{root_path}/v1/models", root_path=root_path).status_code == 401


def test_a_browsers_question_carries_no_key():
    headers = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")]
    assert call(guarded(), method="OPTIONS", headers=headers).text == "anonymous"
    assert call(guarded(), method="POST", headers=headers).status_code == 401


def test_without_any_key_everyone_is_let_in():
    assert call(guarded(ServerSettings())).text == "anonymous"


def test_every_key_is_compared_whether_or_not_an_earlier_one_fits(monkeypatch):
    compared = []

    def compare_digest(given: bytes, own: bytes) -> bool:
        compared.append(own)
        return hmac.compare_digest(given, own)

    monkeypatch.setattr(keys_module, "compare_digest", compare_digest)
    assert call(guarded(), headers=[("X-Api-Key", KEYS["alice"])]).text == "alice"
    assert len(compared) == len(KEYS)


def test_a_websocket_without_a_key_is_closed():
    sent = []

    async def run() -> None:
        async def send(message) -> None:
            sent.append(message)

        await guarded()({"type": "websocket", "path": "/v1/realtime", "headers": []}, None, send)

    anyio.run(run)
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_callers_bounds_are_its_own():
    (alice, bob) = SETTINGS.access.policies
    alice = replace(alice, entry=alice.entry.model_copy(update={"min_sparsity_p": 0.5, "sparsity_p": 0.9}))
    callers = callers_of(replace(SETTINGS, access=replace(SETTINGS.access, policies=(alice, bob))))
    assert [(caller.settings.sparsity_p, caller.settings.min_sparsity_p) for caller in callers] == [
        (0.9, 0.5),
        (1.0, 0.0),
    ]
