"""Records of a JSON or JSONL file, each with the line it starts at."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from attention_backend.errors import WinnowError


class BrokenRecord(WinnowError):
    """A record cannot be used; the message begins with its file and line."""


class Record(NamedTuple):
    """One record as it stands in a file."""

    source: str
    """File and line: "train.json:12"."""

    fields: dict[str, Any]


def read_records(path: Path) -> Iterator[Record | BrokenRecord]:
    """The records of a file, in order.

    Args:
        path: `.jsonl` has one JSON object a line, `.json` one list of objects.

    Yields:
        A record, or the error that it is broken. Only a line of JSONL can be broken by itself.

    Raises:
        BrokenRecord: a `.json` file is not a list or its JSON is broken, so that nothing behind that place can be read.
        ValueError: the file has another ending.
    """
    if path.suffix == ".jsonl":
        return _lines(path)
    if path.suffix == ".json":
        return _list(path)
    raise ValueError(f"data file {path} ends in {path.suffix!r}, but must end in .json or .jsonl. Convert it.")


def _lines(path: Path) -> Iterator[Record | BrokenRecord]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parsed_line(f"{path}:{number}", line)


def _parsed_line(source: str, line: bytes) -> Record | BrokenRecord:
    try:
        return _record(source, json.loads(line))
    except json.JSONDecodeError as error:
        return BrokenRecord(f"{source}: {error.msg} at column {error.colno}. Correct this line.")
    except UnicodeDecodeError as error:
        return BrokenRecord(f"{source}: byte {error.start + 1} is not UTF-8. Correct this line.")


def _record(source: str, fields: Any) -> Record | BrokenRecord:
    if isinstance(fields, dict):
        return Record(source, fields)
    return BrokenRecord(f"{source}: the record is a {type(fields).__name__}, but must be a JSON object. Correct it.")


def _list(path: Path) -> Iterator[Record | BrokenRecord]:
    """Decodes record by record, because a whole list does not say where its items stand."""
    text = _text(path)
    decoder = json.JSONDecoder()
    position, line, counted = _behind(text, 0, "[", path), 1, 0
    while True:
        line, counted = line + text.count("\n", counted, position), position
        source = f"{path}:{line}"
        if text.startswith("]", position):
            return
        try:
            fields, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise BrokenRecord(
                f"{path}:{error.lineno}: {error.msg} at column {error.colno}; the list cannot be read from here on. "
                "Correct the file, or convert it to JSONL, where a broken line can be skipped."
            ) from error
        yield _record(source, fields)
        position = _next_item(text, position, path)


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BrokenRecord(f"{path}:{line}: this line is not UTF-8. Convert the file to UTF-8.") from error


def _next_item(text: str, position: int, path: Path) -> int:
    """Where the next item or the closing bracket stands."""
    position = _skip_spaces(text, position)
    return position if text.startswith("]", position) else _behind(text, position, ",", path)


def _behind(text: str, position: int, sign: str, path: Path) -> int:
    position = _skip_spaces(text, position)
    if not text.startswith(sign, position):
        line = text.count("\n", 0, position) + 1
        raise BrokenRecord(
            f"{path}:{line}: found {text[position : position + 1]!r}, but a list of records needs {sign!r}."
        )
    return _skip_spaces(text, position + 1)


def _skip_spaces(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
