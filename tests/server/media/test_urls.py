"""URLs on which parsers differ are refused; what remains is taken apart once."""

import pytest

from server.errors import RequestRefused
from server.media.urls import MediaURL

# Each is read as another host, or not at all, by some parser or resolver.
REFUSED = {
    "backslash": "http://127.0.0.1\\@example.org/",
    "backslash-path": "http://example.org\\@127.0.0.1/",
    "backslashes": "http:\\\\127.0.0.1\\",
    "space": "http://example.org /",
    "tab": "http://exam\tple.org/",
    "line-break": "http://example.org/\r\nHost: other",
    "nul": "http://example.org/\0",
    "user": "http://user@example.org/",
    "password": "http://user:secret@example.org/",
    "empty-user": "http://@example.org/",
    "two-users": "http://a@b@example.org/",
    "no-host": "http:///x",
    "one-slash": "http:/x",
    "escaped-host": "http://exa%6dple.org/",
    "zone": "http://[fe80::1%25eth0]/",
    "short-ipv4": "http://127.1/",
    "decimal-ipv4": "http://2130706433/",
    "hex-ipv4": "http://0x7f000001/",
    "hex-parts": "http://0x7f.0.0.1/",
    "octal-ipv4": "http://0177.0.0.1/",
    "trailing-dot-ipv4": "http://127.0.0.1../",
    "enclosed-digits": "http://①②⑦.⓪.⓪.①/",
    "full-width": "http://１２７．０．０．１/",
    "soft-hyphen": "http://exam\u00adple.org/",
    "double-dot": "http://example..org/",
    "hyphen": "http://-example.org/",
    "port-text": "http://example.org:80x/",
    "unclosed": "http://[::1/",
    "ftp": "ftp://example.org/x",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript": "javascript:alert(1)",
    "no-scheme": "//example.org/x",
    "jar": "jar:http://example.org!/x",
    "empty": "",
    "long": "http://example.org/" + "a" * 9000,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_refused(text):
    with pytest.raises(RequestRefused) as refusal:
        MediaURL.parse(text, "image_url")
    assert refusal.value.parameter == "image_url"
    assert "image_url is" in str(refusal.value)


def test_credentials_are_not_repeated():
    with pytest.raises(RequestRefused) as refusal:
        MediaURL.parse("https://user:secret@example.org/", "image_url")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "netloc", "target"),
    [
        ("HTTP://Example.ORG", "http", "example.org", 80, b"example.org", b"/"),
        ("https://example.org./a?b=c#d", "https", "example.org", 443, b"example.org.", b"/a?b=c"),
        ("http://example.org:443/", "http", "example.org", 443, b"example.org:443", b"/"),
        ("https://bücher.de/ä", "https", "xn--bcher-kva.de", 443, b"xn--bcher-kva.de", b"/%C3%A4"),
        ("http://[2606:4700::1]/", "http", "2606:4700::1", 80, b"[2606:4700::1]", b"/"),
        ("http://93.184.215.14/@x", "http", "93.184.215.14", 80, b"93.184.215.14", b"/@x"),
    ],
)
def test_parts(text, scheme, host, port, netloc, target):
    url = MediaURL.parse(text, "image_url")
    assert (url.scheme, url.host, url.port, url.netloc, url.target) == (scheme, host, port, netloc, target)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b", "http://example.org/b"),
        ("//other.org/b", "http://other.org/b"),
        ("http://127.0.0.1/b", "http://127.0.0.1/b"),
    ],
)
def test_redirects_are_read_like_first_urls(location, expected):
    assert MediaURL.parse("http://example.org/a", "image_url").joined(location, "image_url").text == expected


@pytest.mark.parametrize("location", ["file:///etc/passwd", "\\\\127.0.0.1\\x", "http://0x7f.1/", "http://u@h/"])
def test_redirects_are_refused_like_first_urls(location):
    with pytest.raises(RequestRefused):
        MediaURL.parse("http://example.org/a", "image_url").joined(location, "image_url")
