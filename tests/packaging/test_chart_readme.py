"""The chart's README says what its values say."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def chart_readme(monkeypatch) -> dict:
    """The script's names, as from the repository's root."""
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "packaging/chart_readme.py"))


def test_the_readme_is_current(chart_readme):
    """If not: python packaging/chart_readme.py"""
    assert chart_readme["readme"]() == (ROOT / "helm/winnow/README.md").read_text()


def test_comments_become_rows(chart_readme):
    text = """
# About the file.

# Says what a is,
# in two lines.
a: 1
branch:
  # A leaf.
  b: [x]
  deeper:
    # Speaks for the whole map.
    c:
      d: true
"""
    assert chart_readme["documented_values"](text) == [
        ("a", 1, "Says what a is, in two lines."),
        ("branch.b", ["x"], "A leaf."),
        ("branch.deeper.c", {"d": True}, "Speaks for the whole map."),
    ]


@pytest.mark.parametrize("text", ["a: 1", "# Far away.\n\na: 1", "branch:\n  a: 1", "branch: {}"])
def test_a_value_without_a_comment_is_refused(chart_readme, text):
    with pytest.raises(chart_readme["UndocumentedValue"], match="has no comment"):
        chart_readme["documented_values"](text)
