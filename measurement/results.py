"""One measured run as one JSON file."""

import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = "winnow.benchmark/1"


@dataclass(frozen=True, slots=True)
class Result:
    """A measured run.

    Attributes:
        case: name of the case.
        arguments: what the case was asked to do.
        environment: from `measurement.environment.describe`.
        units: unit of every figure in `summary` and `samples`, by name.
        summary: the figures of the table, one row each.
        samples: the single measurements behind them.
    """

    case: str
    arguments: dict[str, Any]
    environment: dict[str, Any]
    units: dict[str, str]
    summary: list[dict[str, Any]]
    samples: list[dict[str, Any]]


def write(result: Result, folder: Path) -> Path:
    """Write `<case>-<time>.json`, one line per summary row and sample; returns the path.

    The file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"{result.case}-{time}.json"
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(_one_line_per_row({"schema": SCHEMA, "time": time, **asdict(result)}), encoding="utf-8")
    return unfinished.replace(path)


def read(path: Path) -> Result:
    """Read a result back.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no result, or one of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path.name} is no JSON ({error}). Give a file that `python -m benchmarks run` wrote."
        ) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"schema of {path.name} is {schema!r}, but must be {SCHEMA!r}. Measure again.")
    names = [field.name for field in fields(Result)]
    if missing := [name for name in names if name not in content]:
        raise ValueError(f"{path.name} lacks {', '.join(missing)}, but a result has all of it. Measure again.")
    return Result(**{name: content[name] for name in names})


def _one_line_per_row(content: dict[str, Any]) -> str:
    """Indented JSON, except that the rows of lists stay on one line each: small files and readable differences."""
    rows: list[str] = []

    def mark(row: Any) -> str:
        rows.append(json.dumps(row))
        return f"@row{len(rows) - 1}@"

    marked = {key: [mark(row) for row in value] if isinstance(value, list) else value for key, value in content.items()}
    text = json.dumps(marked, indent=2)
    return re.sub(r'"@row(\d+)@"', lambda match: rows[int(match[1])], text) + "\n"
