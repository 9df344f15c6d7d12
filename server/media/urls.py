"""Media URLs, read once and strictly: what is checked is, part by part, what is connected to."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from server.errors import RequestRefused
from server.media.addresses import Address

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL_CHARS = 8192
MAX_SHOWN_CHARS = 80
# Where parsers differ most: one takes a backslash for a slash, another drops white space.
AMBIGUOUS = re.compile(r"[\\\s\x00-\x20\x7f]")
HOST_NAME = re.compile(r"(?!.{254})(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# "127.1", "0x7f.1" and "2130706433" are addresses for some resolvers.
NUMERIC_END = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")


@dataclass(frozen=True, slots=True)
class MediaURL:
    """An http or https URL, taken apart.

    Attributes:
        scheme: `http` or `https`.
        host: lower case; an IDN in its ASCII form; an IPv6 address without brackets.
        port: the scheme's own where the URL names none.
        netloc: for the Host header.
        target: path and query as they are sent.
        address: the host where it is a literal address.
        text: the URL as it was written.
    """

    scheme: str
    host: str
    port: int
    netloc: bytes
    target: bytes
    address: Address | None
    text: str

    @classmethod
    def parse(cls, text: str, param: str) -> "MediaURL":
        """Take a URL apart.

        Args:
            text: of the request, or of a redirect.
            param: the request's field that holds it.

        Raises:
            RequestRefused: it is not one that every parser reads alike.
        """
        if len(text) > MAX_URL_CHARS:
            raise refused(text, param, f"may have at most {MAX_URL_CHARS} characters", "Send a shorter one")
        if AMBIGUOUS.search(text):
            raise refused(text, param, "must hold no backslash, white space or control character", "Encode them")
        try:
            url = httpx.URL(text)
            # httpx takes digits of any script for those of a port.
            port = urlsplit(text).port
        except (httpx.InvalidURL, ValueError) as error:
            raise refused(text, param, "must be a valid URL", "Correct it") from error
        if url.scheme not in DEFAULT_PORTS:
            raise refused(text, param, "must be an http, https, data or file URL", "Send one of these")
        if url.userinfo or "@" in text.split("//", 1)[-1].split("/", 1)[0]:
            raise refused("with credentials", param, "must hold no user name or password", "Leave them out")
        host = url.raw_host.decode().removesuffix(".")
        return cls(
            scheme=url.scheme,
            host=host,
            port=DEFAULT_PORTS[url.scheme] if port is None else port,
            netloc=url.netloc,
            target=url.raw_path,
            address=_literal(host, text, param),
            text=text,
        )

    def joined(self, location: str, param: str) -> "MediaURL":
        """The URL that a redirect from this one names.

        Raises:
            RequestRefused: it is none that `parse` takes.
        """
        if AMBIGUOUS.search(location):
            raise refused(location, param, "must hold no backslash, white space or control character", "Encode them")
        try:
            return MediaURL.parse(str(httpx.URL(self.text).join(location)), param)
        except httpx.InvalidURL as error:
            raise refused(location, param, "must be a valid URL", "Correct it") from error


def _literal(host: str, text: str, param: str) -> Address | None:
    """The host as an address; None for a name."""
    try:
        # A zone, as in fe80::1%eth0, names an interface of this machine.
        return ipaddress.ip_address(host.replace("%", "/"))
    except ValueError:
        pass
    if NUMERIC_END.fullmatch(host) or not HOST_NAME.fullmatch(host):
        raise refused(text, param, "must name a host by its name or an address in the usual form", "Correct it")
    return None


def refused(shown: str, param: str, rule: str, remedy: str) -> RequestRefused:
    """The refusal of a URL or of what it leads to."""
    shown = shown if len(shown) <= MAX_SHOWN_CHARS else f"{shown[:MAX_SHOWN_CHARS]}..."
    return RequestRefused(f"{param} is {shown!r}, but {rule}. {remedy}.", param=param)
