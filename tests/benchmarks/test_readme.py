"""Generated sections of documents."""

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.readme import has_section, replace_section


def test_only_the_section_changes(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- benchmark: a -->\nold\n<!-- end: a -->\nafter\n")
    replace_section(path, "a", "new")
    assert path.read_text() == "before\n<!-- benchmark: a -->\n\nnew\n\n<!-- end: a -->\nafter\n"
    replace_section(path, "a", "newer")
    assert path.read_text() == "before\n<!-- benchmark: a -->\n\nnewer\n\n<!-- end: a -->\nafter\n"


def test_missing_marker_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("<!-- benchmark: a -->\nno end\n")
    with pytest.raises(BenchmarkError, match="has no section 'a'"):
        replace_section(path, "a", "new")
    assert path.read_text() == "<!-- benchmark: a -->\nno end\n"


def test_sections_are_found_by_how_their_name_begins(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("<!-- benchmark: quality-keys -->\n<!-- end: quality-keys -->\n")
    assert has_section(path, "quality")
    assert not has_section(path, "keys")
