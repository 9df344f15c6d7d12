"""docs/security.md names a test for each class of advisories; the test is there."""

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
LINK = re.compile(r"\[`(test_\w+)`\]\(([^)]+)\)")


def rows() -> list[tuple[str, str, str]]:
    """Class, what covers it, and the links to its tests."""
    table = DOCUMENT.read_text().partition("## Advisory classes")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def test_the_table_is_read():
    assert len(rows()) >= 30


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:50])
def test_each_class_has_a_test_that_exists(row):
    name, covered_by, tests = row
    assert re.match(r"ours|vLLM's|the operator's", covered_by), name
    links = LINK.findall(tests)
    assert links, f"{name} names no test"
    assert not LINK.sub("", tests).strip(" ,"), f"{name} names something else than links: {tests}"
    for test, path in links:
        file = (DOCUMENT.parent / path).resolve()
        assert file.is_file(), f"{path} of {name} does not exist"
        assert re.search(rf"^def {test}\(", file.read_text(), re.MULTILINE), f"{test} is not in {path}"


@pytest.mark.parametrize(
    "words",
    [
        "SSRF", "redirect", "bomb", "Frame flood", "Processor-keyword", "Pickle and ZMQ", "Chat-template", "Regex",
        "Unbounded `n`", "Dead engine", "Metric label", "Prefix-cache", "Forged media hashes", "Request-id abort",
    ],
)  # fmt: skip
def test_no_class_is_missing(words):
    assert any(words in name for name, *_ in rows())
