"""The names that a server on loopback answers to."""

import anyio
import httpx
import pytest
from starlette.responses import PlainTextResponse

from server.access.hosts import Hosts


def status(*hosts: str) -> int:
    """Of a request with these Host headers."""
    app = Hosts(PlainTextResponse("here"), frozenset({"models.example"}))
    sent = []

    async def send(message) -> None:
        sent.append(message)

    headers = [(b"host", host.encode("latin-1")) for host in hosts]
    anyio.run(app, {"type": "http", "method": "GET", "path": "/", "headers": headers}, None, send)
    return sent[0]["status"]


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8000", "LocalHost", "app.localhost:80", "127.0.0.1", "127.0.0.1:8000", "[::1]",
        "[::1]:8000", "192.168.1.7:8000", "models.example", "Models.Example:443", " localhost ",
    ],
)  # fmt: skip
def test_addresses_localhost_and_names_of_the_operator(host):
    assert status(host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "page.example", "page.example:8000", "localhost.page.example", "127.0.0.1.page.example", "notlocalhost",
        "models.example.page.example", "page.example:127.0.0.1", "2130706433", "0x7f.1", "", ":8000",
        "[page.example]", "é",
    ],
)  # fmt: skip
def test_names_of_others_are_refused(host):
    assert status(host) == 421


def test_each_of_several_counts():
    assert status("localhost", "page.example") == 421


def test_clients_that_name_none_are_no_browsers():
    assert status() == 200


def test_the_refusal_says_what_to_do():
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(Hosts(PlainTextResponse("here"), frozenset()))
        async with httpx.AsyncClient(transport=transport, base_url="http://page.example") as client:
            return await client.get("/")

    error = anyio.run(run).json()["error"]
    assert (error["param"], error["code"]) == ("Host", 421)
    assert error["message"].startswith("Host is 'page.example', but a server on loopback without keys answers to")
