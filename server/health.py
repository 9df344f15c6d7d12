"""`python -m server.health`: whether the server beside it can be asked, for the image's HEALTHCHECK.

It imports nothing but the standard library, because it runs every few seconds, and learns the address from the command
line of the container's first process.
"""

import argparse
import http.client
import socket
import ssl
import sys
from pathlib import Path

PATH = "/readyz"
TIMEOUT_S = 5
FIRST_PROCESS = Path("/proc/1/cmdline")
EVERY_ADDRESS = ("", "0.0.0.0", "::")
EXIT_UNHEALTHY = 1


def main(command_line: list[str]) -> int:
    """Ask GET /readyz, which needs no key.

    Args:
        command_line: the server's, whatever stands before its options included.

    Returns:
        0 when it answers 200, otherwise 1 with a sentence on standard error.
    """
    # After "--", which stands behind an init process, argparse would see no options.
    args, _ = _parser().parse_known_args([word for word in command_line if word != "--"])
    connection = _connection(args)
    try:
        connection.request("GET", PATH)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"The server does not answer: {error}.", file=sys.stderr)
        return EXIT_UNHEALTHY
    finally:
        connection.close()
    if status != http.client.OK:
        print(f"GET {PATH} answers {status}.", file=sys.stderr)
        return EXIT_UNHEALTHY
    return 0


def _parser() -> argparse.ArgumentParser:
    """The few of vLLM's options that say where it listens."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--uds")
    parser.add_argument("--ssl-certfile", "--ssl_certfile")
    return parser


def _connection(args: argparse.Namespace) -> http.client.HTTPConnection:
    if args.uds:
        return _UnixConnection(args.uds)
    host = "localhost" if args.host in EVERY_ADDRESS else args.host
    if args.ssl_certfile:
        # Whose certificate it is does not matter here: only the server itself can be there.
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection(host, args.port, timeout=TIMEOUT_S, context=context)
    return http.client.HTTPConnection(host, args.port, timeout=TIMEOUT_S)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix domain socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


if __name__ == "__main__":
    sys.exit(main(FIRST_PROCESS.read_text().split("\0")[:-1]))
