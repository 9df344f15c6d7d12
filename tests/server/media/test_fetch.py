"""Fetching from a web server on loopback, trusted and not: addresses, names, redirects, sizes, times, TLS."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import time
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.errors import MediaUnavailable, RequestRefused
from server.media.fetch import Fetcher
from server.media.settings import MediaSettings
from tests.server.media import corpus
from tests.server.media.conftest import WebServer, running

LOOPBACK = ("127.0.0.0/8",)
MAX_BYTES = 1 << 20


def fetch(url: str, *, domains: tuple[str, ...] = (), **settings: object) -> bytes:
    """Fetch within `settings`."""

    async def run() -> bytes:
        return await Fetcher(MediaSettings(**settings)).fetch(
            url, param="image_url", max_bytes=MAX_BYTES, domains=domains
        )

    return asyncio.run(run())


def trusting(web: WebServer, **settings: object) -> dict:
    """Settings that let this web server through."""
    return {"trusted_media_hosts": LOOPBACK, "media_ports": (web.port,), **settings}


@pytest.fixture
def names(monkeypatch):
    """Answers of a name server: the first of a name's lists for its first question, then the next."""
    answers: dict[str, list[list[str]]] = {}
    questions: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host not in answers:
            return real(host, port, *args, **kwargs)
        questions.append(host)
        lists = answers[host]
        addresses = lists[min(len(questions), len(lists)) - 1]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [entry for address in addresses for entry in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers, questions


def test_a_picture_is_fetched_from_a_trusted_network(web):
    assert fetch(web.url("/picture"), **trusting(web)) == corpus.saved(corpus.gradient(), "PNG")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_loopback_is_refused_in_every_form_and_hears_nothing(web, host):
    with pytest.raises(RequestRefused, match="public addresses"):
        fetch(web.url("/picture", host), media_ports=(web.port,))
    assert web.requests == []


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://[fd00:ec2::254]/", "http://100.64.0.1/"],
)
def test_private_addresses_are_refused_at_once(url):
    started = time.monotonic()
    with pytest.raises(RequestRefused, match="public addresses"):
        fetch(url)
    assert time.monotonic() - started < 2


def test_a_name_that_leads_to_a_private_address_is_refused(web, names):
    names[0]["pictures.example"] = [["127.0.0.1"]]
    with pytest.raises(RequestRefused, match="public addresses"):
        fetch(web.url("/picture", "pictures.example"), media_ports=(web.port,))
    assert web.requests == []


def test_one_private_address_among_public_ones_is_enough(web, names):
    names[0]["pictures.example"] = [["1.1.1.1", "127.0.0.1"]]
    with pytest.raises(RequestRefused, match="public addresses"):
        fetch(web.url("/picture", "pictures.example"), media_ports=(web.port,))


def test_no_name_and_a_private_name_are_answered_alike(web, names):
    names[0].update({"no.example": [[]], "in.example": [["10.0.0.1"]]})
    messages = []
    for host in ("no.example", "in.example"):
        with pytest.raises(RequestRefused) as refusal:
            fetch(f"http://{host}/")
        messages.append(str(refusal.value).replace(host, "HOST"))
    assert messages[0] == messages[1]


def test_a_name_is_resolved_once_and_the_connection_goes_to_that_answer(web, names):
    """A rebinding name server: trusted for the check, elsewhere for the connection."""
    others = running(WebServer, "127.0.0.2", web.port)
    other = next(others)
    answers, questions = names
    answers["rebind.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    fetch(web.url("/picture", "rebind.example"), trusted_media_hosts=("127.0.0.1",), media_ports=(web.port,))
    assert questions == ["rebind.example"]
    assert web.requests == [("/picture", f"rebind.example:{web.port}")]
    assert other.requests == []
    others.close()


def test_a_second_address_is_tried_when_the_first_does_not_answer(web, names):
    names[0]["two.example"] = [["127.0.0.3", "127.0.0.1"]]
    fetch(web.url("/picture", "two.example"), **trusting(web))
    assert len(web.requests) == 1


def test_redirects_are_off(web):
    with pytest.raises(RequestRefused, match="at most 0 redirects"):
        fetch(web.url("/to//picture"), **trusting(web))
    assert [path for path, _ in web.requests] == ["/to//picture"]


def test_redirects_are_followed_when_asked_for(web):
    assert fetch(web.url("/to//picture"), **trusting(web, max_media_redirects=1)).startswith(b"\x89PNG")


def test_redirects_end(web):
    with pytest.raises(RequestRefused, match="at most 3 redirects"):
        fetch(web.url("/loop/0"), **trusting(web, max_media_redirects=3))
    assert len(web.requests) == 4


@pytest.mark.parametrize(
    ("location", "rule"),
    [
        ("http://127.0.0.2:{port}/picture", "public addresses"),
        ("http://[::1]:{port}/picture", "public addresses"),
        ("http://169.254.169.254:{port}/", "public addresses"),
        ("http://127.0.0.1:22/", "must use port"),
        ("file:///etc/passwd", "http, https"),
        ("http://2130706433:{port}/picture", "usual form"),
    ],
)
def test_every_redirect_is_checked_like_the_first_url(web, location, rule):
    url = web.url("/to/" + location.format(port=web.port))
    with pytest.raises(RequestRefused, match=rule):
        fetch(url, trusted_media_hosts=("127.0.0.1",), media_ports=(web.port,), max_media_redirects=3)
    assert len(web.requests) == 1


def test_redirects_stay_within_the_allowed_domains(web, names):
    names[0].update({"good.example": [["127.0.0.1"]], "bad.example": [["127.0.0.1"]]})
    url = web.url(f"/to/http://bad.example:{web.port}/picture", "good.example")
    with pytest.raises(RequestRefused, match="--allowed-media-domains"):
        fetch(url, domains=("good.example",), **trusting(web, max_media_redirects=1))


@pytest.mark.parametrize(
    ("host", "domains", "is_allowed"),
    [
        ("pictures.example", ("pictures.example",), True),
        ("pictures.example", ("Pictures.Example",), True),
        ("a.pictures.example", ("*.pictures.example",), True),
        ("a.pictures.example", ("pictures.example",), False),
        ("pictures.example", ("*.pictures.example",), False),
        ("evilpictures.example", ("*.pictures.example", "pictures.example"), False),
        ("pictures.example.evil", ("pictures.example",), False),
    ],
)
def test_domains(web, names, host, domains, is_allowed):
    names[0][host] = [["127.0.0.1"]]
    if is_allowed:
        assert fetch(web.url("/picture", host), domains=domains, **trusting(web))
    else:
        with pytest.raises(RequestRefused, match="--allowed-media-domains"):
            fetch(web.url("/picture", host), domains=domains, **trusting(web))
        assert web.requests == []


@pytest.mark.parametrize(
    ("port", "rule"),
    [
        *((port, "must use port 80 or 443") for port in ("{port}", "22", "0")),
        *((port, "must be a valid URL") for port in ("-1", "99999999999999999999", "٨٠")),
    ],
)
def test_other_ports_are_refused(web, port, rule):
    with pytest.raises(RequestRefused, match=rule):
        fetch(f"http://127.0.0.1:{port.format(port=web.port)}/picture", trusted_media_hosts=LOOPBACK)
    assert web.requests == []


@pytest.mark.parametrize("path", ["/endless/", f"/claims/{MAX_BYTES + 1}"])
def test_too_many_bytes(web, path):
    with pytest.raises(RequestRefused, match=f"at most {MAX_BYTES} bytes"):
        fetch(web.url(path), **trusting(web))


def test_the_time_limit_is_for_the_whole_fetch(web):
    started = time.monotonic()
    with pytest.raises(MediaUnavailable, match=r"not there within 0\.5 s"):
        fetch(web.url("/drip/"), **trusting(web, media_timeout_s=0.5))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("path", "what"),
    [("/status/404", "HTTP 404"), ("/status/500", "HTTP 500"), ("/status/204", "HTTP 204"), ("/zipped/", "encoding")],
)
def test_other_answers_are_unavailable_media(web, path, what):
    with pytest.raises(MediaUnavailable, match=what):
        fetch(web.url(path), **trusting(web))


def test_a_closed_port_is_unavailable_media():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with pytest.raises(MediaUnavailable, match="could not be fetched"):
        fetch(f"http://127.0.0.1:{port}/", trusted_media_hosts=LOOPBACK, media_ports=(port,))


def test_proxies_of_the_environment_are_not_asked(web, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch(web.url("/picture"), **trusting(web))


def test_fetches_wait_for_one_another(web):
    settings = MediaSettings(**trusting(web, max_media_fetches=1, media_timeout_s=2.0))

    async def run() -> bytes:
        fetcher = Fetcher(settings)
        slow = asyncio.create_task(fetcher.fetch(web.url("/drip/"), param="image_url", max_bytes=MAX_BYTES))
        await asyncio.sleep(0.5)
        other = asyncio.create_task(fetcher.fetch(web.url("/picture"), param="image_url", max_bytes=MAX_BYTES))
        await asyncio.sleep(0.5)
        assert [path for path, _ in web.requests] == ["/drip/"]
        slow.cancel()
        return await other

    assert asyncio.run(run()).startswith(b"\x89PNG")


@contextmanager
def https(tmp_path, name: str, monkeypatch):
    """A web server with a certificate for `name`, from an authority that this process believes."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    servers = running(WebServer, ssl_context=context)
    yield next(servers)
    servers.close()


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.mark.parametrize("host", ["pictures.example", "127.0.0.1"])
def test_tls_verifies_the_name_of_the_url_although_the_connection_goes_to_an_address(
    tmp_path, monkeypatch, names, host
):
    names[0]["pictures.example"] = [["127.0.0.1"]]
    with https(tmp_path, host, monkeypatch) as web:
        assert fetch(web.url("/picture", host, "https"), **trusting(web)).startswith(b"\x89PNG")


def test_tls_refuses_the_certificate_of_another_name(tmp_path, monkeypatch, names):
    names[0]["pictures.example"] = [["127.0.0.1"]]
    with https(tmp_path, "other.example", monkeypatch) as web, pytest.raises(MediaUnavailable):
        fetch(web.url("/picture", "pictures.example", "https"), **trusting(web))
    assert web.requests == []


def test_no_redirect_from_https_to_http(tmp_path, monkeypatch, web):
    with https(tmp_path, "127.0.0.1", monkeypatch) as secure:
        settings = trusting(web, max_media_redirects=1, media_ports=(web.port, secure.port))
        with pytest.raises(RequestRefused, match="from https to http"):
            fetch(secure.url(f"/to/{web.url('/picture')}", scheme="https"), **settings)
    assert web.requests == []
