"""Writes the chart's README from its values' comments: `python packaging/chart_readme.py`, in the repository's root."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

CHART = Path("helm/winnow")

README = """\
# The chart `winnow`

One release serves one model: a Deployment (or, over several nodes, a LeaderWorkerSet), its Service, and what
a cluster needs around them. [docs/deploy.md](../../docs/deploy.md) leads from an empty cluster to a chat request,
and says what was not run on a real one.

```
helm install winnow helm/winnow --values helm/winnow/examples/cpu-demo.yaml
helm test winnow --logs
```

Values that cannot work are refused by a closed schema and by rules that say what to do.
`helm test` asks the running server: models, chat, stream, sparsity.

## Examples

| file | |
| --- | --- |
{examples}

## Values

| value | default | |
| --- | --- | --- |
{values}

This file is written by `python packaging/chart_readme.py`.
"""


class Value(NamedTuple):
    """One row of the table."""

    path: str
    default: object
    comment: str


class UndocumentedValue(ValueError):
    """A value has no comment above it."""


def documented_values(text: str) -> list[Value]:
    """The values of a chart with the comments above their keys; a comment above a map speaks for all of it.

    Raises:
        UndocumentedValue: a leaf has no comment.
    """
    return list(_rows(yaml.compose(text), text.splitlines(), yaml.safe_load(text), ()))


def _rows(node: yaml.MappingNode, lines: list[str], values: dict, above: tuple[str, ...]) -> Iterator[Value]:
    for key, child in node.value:
        path, default = (*above, key.value), values[key.value]
        comment = _comment_above(lines, key.start_mark.line)
        if comment:
            yield Value(".".join(path), default, comment)
        elif isinstance(child, yaml.MappingNode) and child.value:
            yield from _rows(child, lines, default, path)
        else:
            raise UndocumentedValue(f"{'.'.join(path)} has no comment. Write one above it in {CHART}/values.yaml.")


def _comment_above(lines: list[str], line: int) -> str:
    """The comment lines directly above a line, at its indentation."""
    mark = lines[line][: len(lines[line]) - len(lines[line].lstrip())] + "# "
    first = line
    while first > 0 and lines[first - 1].startswith(mark):
        first -= 1
    return " ".join(row.strip().removeprefix("# ") for row in lines[first:line])


def readme() -> str:
    """The text of the README."""
    rows = documented_values((CHART / "values.yaml").read_text())
    values = [f"| `{row.path}` | `{json.dumps(row.default)}` | {row.comment} |" for row in rows]
    examples = [
        f"| [{path.name}](examples/{path.name}) | {_first_sentence(path)} |"
        for path in sorted(CHART.glob("examples/*.yaml"))
    ]
    return README.format(examples="\n".join(examples), values="\n".join(values))


def _first_sentence(path: Path) -> str:
    """What the first comment line of an example says it is."""
    return path.read_text().partition("\n")[0].removeprefix("# ")


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
