"""Starting a server for a benchmark, with a module of the test's own as the server."""

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.server_process import serving

# Answers every GET with two of its environment variables.
SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.environ.get('GIVEN')} {os.environ.get('TAKEN')}".encode())
    def log_message(self, *args): pass

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    (tmp_path / "made_up_server.py").write_text(SERVER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "made_up_server"


def test_variables_are_given_and_taken_away(module, monkeypatch):
    import httpx

    monkeypatch.setenv("TAKEN", "here")
    with serving("m", module=module, environment={"GIVEN": "new", "TAKEN": None}) as url:
        assert httpx.get(url).text == "new None"
    with serving("m", module=module) as url:
        assert httpx.get(url).text == "None here"


def test_a_server_that_ends_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "made_up_server.py").write_text("raise SystemExit('Winnow cannot start: no such model.')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        pytest.raises(BenchmarkError, match=r"ended with status 1:  ?no such model. Its log: "),
        serving("m", module="made_up_server"),
    ):
        pass
