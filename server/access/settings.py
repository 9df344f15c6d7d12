"""Options about access: API keys, routes, and how much callers may ask for at a time."""

import argparse
import os
from dataclasses import dataclass, field, fields
from typing import Any

from server.access.paths import DOCS, HARMLESS, METRICS, SERVED
from server.access.policies import ENVIRONMENT_VARIABLE, Policy, read_policies
from server.errors import InvalidServerSettings
from server.flags import flag

# vLLM's variable for one key.
VLLM_VARIABLE = "VLLM_API_KEY"
EXPOSURES = ("key", "open", "off")


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may call, and which routes exist.

    Attributes:
        policies: the callers; without any, everyone who reaches the server may ask.
        allowed_hosts: names by which a server on loopback without keys may be called besides localhost.
        enable_routes: paths of vLLM's routes that are off by default.
        metrics_access: /metrics asks for a key like all others, is open, or is off.
        docs_access: the same for the descriptions of the API.
        requests_per_minute: of a caller whose entry does not say; 0 for any number.
        concurrent_requests: of a caller whose entry does not say; 0 for any number.
        max_queued_requests: that wait beyond those the engine runs at a time.

    Raises:
        InvalidServerSettings: a value is out of range.
    """

    policies: tuple[Policy, ...] = ()
    allowed_hosts: frozenset[str] = field(default_factory=frozenset)
    enable_routes: frozenset[str] = field(default_factory=frozenset)
    metrics_access: str = "key"
    docs_access: str = "key"
    requests_per_minute: int = 0
    concurrent_requests: int = 0
    max_queued_requests: int = 512

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "concurrent_requests", "max_queued_requests"):
            if getattr(self, name) < 0:
                raise InvalidServerSettings(
                    f"{flag(name)} is {getattr(self, name)}, but must not be negative. Choose a number of requests."
                )

        if self.operator_paths and not any(policy.entry.operator for policy in self.policies):
            raise InvalidServerSettings(
                f"--enable-routes has {' '.join(sorted(self.operator_paths))}, which may change the server or others' "
                "requests, but no key is an operator's. Give one caller of --api-keys-file `operator = true`."
            )

    @property
    def operator_paths(self) -> frozenset[str]:
        """Routes that are on and not known to be harmless: they may put the engine to sleep, load weights, abort
        others' requests, or come with a later vLLM."""
        return self.enable_routes - SERVED - HARMLESS - METRICS - DOCS

    @property
    def asks_for_keys(self) -> bool:
        """Whether any caller is named."""
        return bool(self.policies)

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> "AccessSettings":
        """Read the options that `add_access_arguments` declared, and the environment.

        vLLM's `--api-key` and VLLM_API_KEY are taken out of their places: vLLM's own check guards some paths only and
        would not know the other keys, and processes of the engine have no use for them.

        Raises:
            InvalidServerSettings: a value is out of range, or an entry of the keys breaks a rule.
        """
        named, unnamed = os.environ.pop(ENVIRONMENT_VARIABLE, None), os.environ.pop(VLLM_VARIABLE, None)
        keys = [key for key in (vars(args).get("api_key") or [unnamed]) if key]
        args.api_key = None
        options = {option.name: getattr(args, option.name) for option in fields(cls) if option.name != "policies"}
        options["allowed_hosts"] = frozenset(name.lower() for name in options["allowed_hosts"])
        options["enable_routes"] = frozenset(options["enable_routes"])
        return cls(policies=read_policies(args.api_keys_file, named, keys), **options)


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options about access."""
    group = parser.add_argument_group("Winnow access", "API keys, routes, and how much callers may ask for at a time.")
    group.add_argument(
        "--api-keys-file",
        help=f"TOML file with one table for each caller: its keys and what it may do. {ENVIRONMENT_VARIABLE} may hold "
        "NAME=KEY pairs besides. Without any key everyone who reaches the server may ask.",
    )
    defaults = AccessSettings()

    def add(spelling: str, **options: Any) -> None:
        name = spelling[2:].replace("-", "_")
        group.add_argument(spelling, **{"default": getattr(defaults, name), **options})

    add(
        "--allowed-hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="Names in Host that a server on loopback without keys answers to, besides addresses and localhost.",
    )
    add("--enable-routes", nargs="+", default=[], metavar="PATH", help="Routes of vLLM that are off by default.")
    add("--metrics-access", choices=EXPOSURES, help="/metrics asks for a key (where there are any), is open, or off.")
    add("--docs-access", choices=EXPOSURES, help="The same for /docs, /redoc and /openapi.json.")
    add("--requests-per-minute", type=int, help="For callers whose entry does not say; 0 allows any number.")
    add("--concurrent-requests", type=int, help="For callers whose entry does not say; 0 allows any number.")
    add("--max-queued-requests", type=int, help="Requests that may wait for the engine; more get HTTP 503.")
