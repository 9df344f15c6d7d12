"""Fetches media: a name is resolved once, every answer is checked, and the connection goes to an address so checked.

httpcore is httpx's own transport; its network backend is the one place where a connection is opened, and the name in
the URL stays what TLS verifies. Proxies of the environment are not used: they would resolve the name again.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore
import httpx

from server.errors import MediaUnavailable, RequestRefused
from server.media.addresses import Address, TrustedHosts, is_public
from server.media.settings import MediaSettings
from server.media.urls import MediaURL, refused

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Identity: a compressed answer could be larger than its bytes say.
HEADERS = [(b"User-Agent", b"winnow"), (b"Accept", b"image/*, video/*, */*;q=0.5"), (b"Accept-Encoding", b"identity")]


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, whatever host a URL names.

    Args:
        addresses: tried in order.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        *others, last = self._addresses
        for address in others:
            try:
                return await self._backend.connect_tcp(str(address), port, *args, **kwargs)
            except httpcore.ConnectError:
                pass
        return await self._backend.connect_tcp(str(last), port, *args, **kwargs)


class Fetcher:
    """Fetches what URLs of requests point at; one for a server.

    Args:
        settings: sources and limits.
    """

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._trusted = TrustedHosts.of(settings.trusted_media_hosts)
        self._ssl_context = httpx.create_ssl_context()
        self._slots = asyncio.Semaphore(settings.max_media_fetches)

    async def fetch(self, text: str, *, param: str, max_bytes: int, domains: Iterable[str] = ()) -> bytes:
        """The body that a URL leads to.

        Args:
            text: the URL.
            param: the request's field that holds it.
            max_bytes: of the body.
            domains: the only hosts allowed, where there are any; `*.example.org` stands for all below it.

        Raises:
            RequestRefused: the URL leads where it must not, or to too much.
            MediaUnavailable: its host does not answer as it should.
        """
        try:
            async with asyncio.timeout(self._settings.media_timeout_s), self._slots:
                url = MediaURL.parse(text, param)
                for _ in range(self._settings.max_media_redirects + 1):
                    answer = await self._get(url, param, max_bytes, tuple(domains))
                    if isinstance(answer, bytes):
                        return answer
                    url = _redirected(url, answer, param)
        except TimeoutError as error:
            raise unavailable(text, param, f"was not there within {self._settings.media_timeout_s} s") from error
        raise refused(
            text, param, f"may lead through at most {self._settings.max_media_redirects} redirects", "Send the last URL"
        )

    async def _get(self, url: MediaURL, param: str, max_bytes: int, domains: tuple[str, ...]) -> bytes | str:
        """One request: the body, or where it redirects to."""
        self._check_domain(url, param, domains)
        backend = PinnedBackend(await self._checked_addresses(url, param))
        request = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        pool = httpcore.AsyncConnectionPool(ssl_context=self._ssl_context, network_backend=backend)
        try:
            async with (
                pool,
                pool.stream("GET", request, headers=[(b"Host", url.netloc), *HEADERS]) as response,
            ):
                headers = {name.lower(): value for name, value in response.headers}
                if response.status in REDIRECTS and b"location" in headers:
                    return headers[b"location"].decode("latin-1")
                return await _body(response, headers, url.text, param, max_bytes)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise unavailable(url.text, param, "could not be fetched") from error

    def _check_domain(self, url: MediaURL, param: str, domains: tuple[str, ...]) -> None:
        if domains and not any(_matches(url.host, domain.lower()) for domain in domains):
            raise refused(
                url.text, param, "must be on a domain of --allowed-media-domains", "Use one, or send the data"
            )
        if url.port not in self._settings.media_ports:
            raise refused(url.text, param, f"must use port {self._ports}", "Use it, or ask for --media-ports")

    @property
    def _ports(self) -> str:
        return " or ".join(str(port) for port in self._settings.media_ports)

    async def _checked_addresses(self, url: MediaURL, param: str) -> Sequence[Address]:
        """Every address of the URL's host, each of them allowed.

        A name without addresses and one with private addresses are answered alike: strangers learn no internal names.
        """
        addresses = [url.address] if url.address is not None else await _resolved(url.host, url.port)
        if not addresses or not all(is_public(one) or self._trusted.allow(url.host, one) for one in addresses):
            raise refused(
                url.text, param, "must lead to public addresses only", "Send the data itself, or ask for trusted hosts"
            )
        return addresses


def _redirected(url: MediaURL, location: str, param: str) -> MediaURL:
    target = url.joined(location, param)
    if url.scheme == "https" and target.scheme == "http":
        raise refused(url.text, param, "must not lead from https to http", "Send the last URL")
    return target


async def _resolved(host: str, port: int) -> list[Address]:
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(ipaddress.ip_address(answer[4][0]) for answer in answers))


def _matches(host: str, domain: str) -> bool:
    return host.endswith(domain[1:]) if domain.startswith("*.") else host == domain


async def _body(
    response: httpcore.Response, headers: dict[bytes, bytes], text: str, param: str, max_bytes: int
) -> bytes:
    if response.status != 200:
        raise unavailable(text, param, f"answered HTTP {response.status}")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise unavailable(text, param, "answered in a content encoding that was not asked for")
    length = headers.get(b"content-length", b"0")
    chunks, num_bytes = [], 0
    if length.isdigit() and int(length) > max_bytes:
        raise too_large(text, param, max_bytes)
    async for chunk in response.aiter_stream():
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise too_large(text, param, max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(shown: str, param: str, max_bytes: int) -> RequestRefused:
    """The refusal of media with too many bytes."""
    return refused(shown, param, f"may have at most {max_bytes} bytes", "Send a smaller one")


def unavailable(text: str, param: str, what: str) -> MediaUnavailable:
    """The answer to a URL behind which there is nothing to decode."""
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    return MediaUnavailable(
        f"{param} is {shown!r}, but {what}. Check that it can be reached, or send the data itself.", param=param
    )
