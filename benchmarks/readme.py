"""Generated parts of documents, between `<!-- benchmark: NAME -->` and `<!-- end: NAME -->`."""

from pathlib import Path

from benchmarks.errors import BenchmarkError


def has_section(path: Path, prefix: str) -> bool:
    """Whether a document has a section whose name begins so."""
    return f"<!-- benchmark: {prefix}" in path.read_text(encoding="utf-8")


def replace_section(path: Path, name: str, content: str) -> None:
    """Put `content` between the markers of `name`.

    Raises:
        BenchmarkError: the file lacks the markers.
    """
    start, end = f"<!-- benchmark: {name} -->", f"<!-- end: {name} -->"
    text = path.read_text(encoding="utf-8")
    head, found_start, rest = text.partition(start)
    _, found_end, tail = rest.partition(end)
    if not (found_start and found_end):
        raise BenchmarkError(f"{path.name} has no section {name!r}, but needs {start} and {end}. Add both lines.")
    path.write_text(f"{head}{start}\n\n{content}\n\n{end}{tail}", encoding="utf-8")
