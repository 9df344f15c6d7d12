"""The repository's Python files and what they import."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("server", "attention_backend", "training", "benchmarks", "measurement")


class Import(NamedTuple):
    """One import statement: the file that holds it and the absolute module name it asks for."""

    path: Path
    line: int
    module: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def python_files(folder: str) -> list[Path]:
    """All Python files below a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> Iterator[Import]:
    """Every import in a file, also those inside functions; relative ones made absolute."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(path, node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield Import(path, node.lineno, ".".join([*base, *filter(None, [node.module])]))


def imports_below(folder: str) -> list[Import]:
    """Every import below a folder of the repository."""
    return [found for path in python_files(folder) for found in imports_of(path)]
