"""What the person at the terminal sees, and that the pasted line works as it stands."""

import json
import shutil
import subprocess

import pytest


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_printed_curl_line_works(server):
    (line,) = [line for line in server.log.read_text().splitlines() if line.startswith("curl ")]
    answer = json.loads(subprocess.run(line, shell=True, check=True, capture_output=True, cwd="/").stdout)
    assert answer["usage"]["sparsity"]["sparsity_p"] == 0.975
    assert answer["choices"][0]["message"]["content"] == "cyan"
    assert answer["model"] == "demo"


def test_the_log_proves_that_the_backend_is_live(server):
    assert "is live in 4 layers of 1 worker(s)." in server.log.read_text()
