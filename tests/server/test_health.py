"""The image's health check, against small servers of the standard library and the real one."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server import health
from tests.server.harness import free_port


class Answer(BaseHTTPRequestHandler):
    """200 on /readyz unless the server says otherwise."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/readyz" else 404)
        self.end_headers()

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_) -> None:
        pass


class UnixServer(HTTPServer):
    """The same over a Unix domain socket."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)


@pytest.fixture
def start() -> Iterator[Callable[[HTTPServer], HTTPServer]]:
    servers = []

    def start(server: HTTPServer, status: int = 200) -> HTTPServer:
        server.status = status
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "form",
    [
        ["python3", "-m", "server", "--host", "0.0.0.0", "--model", "demo", "--port", "{port}"],
        ["python3", "-m", "server", "--model", "demo", "--port={port}", "--sparsity-p", "0.9"],
        ["/sbin/docker-init", "--", "python3", "-m", "server", "--port", "1", "--port", "{port}"],
    ],
    ids=["words", "equals", "last-wins"],
)
def test_the_port_is_that_of_the_command_line(start, form):
    server = start(HTTPServer(("127.0.0.1", 0), Answer))
    assert health.main([word.format(port=server.server_port) for word in form]) == 0


def test_another_status_than_200_is_unhealthy(start, capsys):
    server = start(HTTPServer(("127.0.0.1", 0), Answer), status=503)
    assert health.main(["--port", str(server.server_port)]) == 1
    assert capsys.readouterr().err == "GET /readyz answers 503.\n"


def test_no_answer_is_unhealthy(capsys):
    assert health.main(["--port", str(free_port())]) == 1
    assert "The server does not answer: " in capsys.readouterr().err


def test_a_silent_server_is_unhealthy(capsys, monkeypatch):
    monkeypatch.setattr(health, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert health.main(["--port", str(listener.getsockname()[1])]) == 1
    assert "timed out" in capsys.readouterr().err


def test_what_is_no_http_is_unhealthy(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"SSH-2.0-nobody\r\n\r\n")

        threading.Thread(target=speak, daemon=True).start()
        assert health.main(["--port", str(listener.getsockname()[1])]) == 1
    assert "The server does not answer: " in capsys.readouterr().err


def test_a_unix_domain_socket(start, tmp_path):
    path = str(tmp_path / "server.sock")
    start(UnixServer(path, Answer))
    assert health.main(["--uds", path]) == 0


def test_a_certificate_of_its_own_is_good_enough(start, certificate):
    server = HTTPServer(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    start(server)
    assert health.main(["--port", str(server.server_port), "--ssl-certfile", str(certificate)]) == 0


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for another name, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "models.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(pem))
    return path


def test_the_real_server_is_healthy(server):
    assert health.main(["python3", "-m", "server", "--port", server.url.rpartition(":")[2]]) == 0
