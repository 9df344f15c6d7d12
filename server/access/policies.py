"""Callers as the operator names them: their API keys and what each may do, from a file and from the environment."""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.errors import InvalidServerSettings

ENVIRONMENT_VARIABLE = "WINNOW_API_KEYS"
# For keys that come without a name, by vLLM's `--api-key` and VLLM_API_KEY.
UNNAMED = "default"

MIN_KEY_CHARS = 16
DIGEST_PREFIX = "sha256:"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[!-~]+")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CallerEntry(BaseModel):
    """A table of the key file; its name is the caller's.

    Attributes:
        keys: each a key, or `sha256:` and its digest in hex, so that the file need not hold the key.
        operator: whether routes that change the server are open to it.
        sparsity_p: for its requests that leave the field out; the server's default when None.
        min_sparsity_p: smallest value that it may ask for; the server's bound when None.
        max_sparsity_p: largest value that it may ask for; the server's bound when None.
        requests_per_minute: `--requests-per-minute` when None; 0 for any number.
        concurrent_requests: `--concurrent-requests` when None; 0 for any number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    keys: Annotated[list[str], Field(min_length=1)]
    operator: bool = False
    sparsity_p: float | None = None
    min_sparsity_p: float | None = None
    max_sparsity_p: float | None = None
    requests_per_minute: Annotated[int, Field(ge=0)] | None = None
    concurrent_requests: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One caller.

    Attributes:
        name: for logs; no secret.
        digests: SHA-256 of its keys. The keys themselves are not kept.
        entry: what it may do, with its keys left out.
    """

    name: str
    digests: tuple[bytes, ...]
    entry: CallerEntry


def digest_of(key: str) -> bytes:
    """What is compared instead of the key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def read_policies(path: str | None, named: str | None, unnamed: Iterable[str]) -> tuple[Policy, ...]:
    """Everyone who may call; nobody in particular when empty.

    Args:
        path: TOML file with one table for each caller.
        named: `NAME=KEY` pairs between blanks, the value of the environment variable.
        unnamed: keys of the caller "default".

    Raises:
        InvalidServerSettings: an entry breaks a rule. The message repeats no key.
    """
    entries: list[tuple[str, str, Mapping[str, Any]]] = []
    if path:
        entries += [(f"{path}: [{name}]", name, table) for name, table in _tables(path).items()]
    for number, pair in enumerate((named or "").split(), 1):
        name, separator, key = pair.partition("=")
        if not separator:
            raise InvalidServerSettings(
                f"{ENVIRONMENT_VARIABLE}: entry {number} has no `=`, but each must be NAME=KEY. Write it so."
            )
        entries.append((f"{ENVIRONMENT_VARIABLE}: {name}", name, {"keys": [key]}))
    if keys := list(unnamed):
        entries.append(("--api-key", UNNAMED, {"keys": keys}))
    policies = tuple(_policy(where, name, table) for where, name, table in entries)
    _refuse_ambiguity(policies)
    return policies


def _tables(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidServerSettings(
            f"--api-keys-file is {path}, but cannot be read: {error}. Give a TOML file with one table for each caller."
        ) from error


def _policy(where: str, name: str, table: Mapping[str, Any]) -> Policy:
    if not _NAME.fullmatch(name):
        raise InvalidServerSettings(f"{where} is no name, but must have 1 to 64 letters, digits, '.', '_' or '-'.")
    try:
        entry = CallerEntry.model_validate(table)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in fault["loc"]) or "this"
        fields = ", ".join(CallerEntry.model_fields)
        raise InvalidServerSettings(
            f"{where} {field}: {fault['msg']}. A caller is a table with some of: {fields}."
        ) from None
    digests = tuple(_digest(where, number, text) for number, text in enumerate(entry.keys, 1))
    return Policy(name, digests, entry.model_copy(update={"keys": []}))


def _digest(where: str, number: int, text: str) -> bytes:
    if text.startswith(DIGEST_PREFIX):
        digest = text.removeprefix(DIGEST_PREFIX)
        if not _DIGEST.fullmatch(digest):
            raise InvalidServerSettings(
                f"{where} key {number} begins with {DIGEST_PREFIX}, but 64 hexadecimal digits in lower case must "
                "follow. Write what `printf %s KEY | sha256sum` prints."
            )
        return bytes.fromhex(digest)
    if len(text) < MIN_KEY_CHARS or not _KEY.fullmatch(text):
        raise InvalidServerSettings(
            f"{where} key {number} has {len(text)} characters, but a key must have at least {MIN_KEY_CHARS}, all "
            "visible ASCII, so that nobody guesses it. Make one with `openssl rand -hex 32`."
        )
    return digest_of(text)


def _refuse_ambiguity(policies: tuple[Policy, ...]) -> None:
    """A key that says two names would say neither."""
    names: dict[str, None] = {}
    owners: dict[bytes, str] = {}
    for policy in policies:
        if policy.name in names:
            raise InvalidServerSettings(
                f"The caller {policy.name} is there twice, but a name stands for one policy. Put its keys into one "
                "entry of the key file."
            )
        names[policy.name] = None
        for digest in policy.digests:
            if digest in owners:
                raise InvalidServerSettings(
                    f"The callers {owners[digest]} and {policy.name} have the same key, but a key names one caller. "
                    "Give each its own."
                )
            owners[digest] = policy.name
