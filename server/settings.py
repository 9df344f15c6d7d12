"""The server's own options: what a request gets when it says nothing, and what an operator allows."""

import argparse
from dataclasses import dataclass, field, fields, replace
from math import inf

from attention_backend import SparsityConfig, check_sparsity_p
from attention_backend.config import RANKINGS, SERVED_SELECTIONS
from attention_backend.errors import InvalidSparsityP
from server.access.policies import Policy
from server.access.settings import AccessSettings, add_access_arguments
from server.errors import InvalidServerSettings
from server.limits.settings import RequestLimits, add_limit_arguments
from server.media.settings import MediaSettings, add_media_arguments


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything that this server adds to vLLM's options.

    Attributes:
        sparsity_p: for requests that leave it out; 1 is dense.
        min_sparsity_p: smallest value that a request may ask for; 0 allows every value above 0.
        max_sparsity_p: largest value that a request may ask for.
        sparsity: how the engine chooses the kept tokens.
        media: where pictures and videos may come from, and their limits.
        access: who may call, and which routes exist.
        limits: how large one request may be.
        readiness_timeout_s: how long the engine may generate nothing before /readyz says so.

    Raises:
        InvalidServerSettings: a value is out of range.
    """

    sparsity_p: float = 1.0
    min_sparsity_p: float = 0.0
    max_sparsity_p: float = 1.0
    sparsity: SparsityConfig = field(default_factory=SparsityConfig)
    media: MediaSettings = field(default_factory=MediaSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    limits: RequestLimits = field(default_factory=RequestLimits)
    readiness_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_sparsity_p <= self.max_sparsity_p <= 1.0 or self.max_sparsity_p == 0.0:
            raise InvalidServerSettings(
                f"--min-sparsity-p is {self.min_sparsity_p} and --max-sparsity-p is {self.max_sparsity_p}, but "
                "0 <= minimum <= maximum <= 1 and maximum > 0 must hold. Choose such bounds."
            )
        try:
            check_sparsity_p(self.sparsity_p, minimum=self.min_sparsity_p, maximum=self.max_sparsity_p)
        except InvalidSparsityP:
            raise InvalidServerSettings(
                f"--sparsity-p is {self.sparsity_p}, but must be greater than 0, at most 1 and within the bounds "
                f"{self.min_sparsity_p} to {self.max_sparsity_p}. Change it, --min-sparsity-p or --max-sparsity-p."
            ) from None
        if not 0.0 < self.readiness_timeout_s < inf:
            raise InvalidServerSettings(
                f"--readiness-timeout is {self.readiness_timeout_s}, but must be a number of seconds above 0. "
                "Choose one that is longer than the longest step of the engine, such as 60."
            )

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> "ServerSettings":
        """Read the options that `add_arguments` declared.

        Raises:
            InvalidServerSettings, InvalidSparsityConfig: a value is out of range.
        """
        # Selection "fixed" is for benchmarks: no server option leads to it.
        names = {option.name for option in fields(SparsityConfig)} - {"fixed_token_ratio"}
        options = {name: getattr(args, name) for name in names}
        settings = cls(
            sparsity_p=args.sparsity_p,
            min_sparsity_p=args.min_sparsity_p,
            max_sparsity_p=args.max_sparsity_p,
            sparsity=SparsityConfig(**options),
            media=MediaSettings.from_args(args),
            access=AccessSettings.from_args(args),
            limits=RequestLimits.from_args(args),
            readiness_timeout_s=args.readiness_timeout,
        )
        for policy in settings.access.policies:
            settings.narrowed(policy)
        return settings

    def narrowed(self, policy: Policy) -> "ServerSettings":
        """These settings with a caller's own default and bounds of `sparsity_p`.

        Raises:
            InvalidServerSettings: they are wider than the server's, or its default lies outside of them.
        """
        entry = policy.entry
        minimum = self.min_sparsity_p if entry.min_sparsity_p is None else entry.min_sparsity_p
        maximum = self.max_sparsity_p if entry.max_sparsity_p is None else entry.max_sparsity_p
        sparsity_p = self.sparsity_p if entry.sparsity_p is None else entry.sparsity_p
        if not self.min_sparsity_p <= minimum <= sparsity_p <= maximum <= self.max_sparsity_p:
            raise InvalidServerSettings(
                f"The caller {policy.name} has min_sparsity_p {minimum}, sparsity_p {sparsity_p} and max_sparsity_p "
                f"{maximum} (the server's where it says nothing), but they must rise in this order and stay within the "
                f"server's bounds {self.min_sparsity_p} to {self.max_sparsity_p}. Correct its entry of the key file."
            )
        return replace(self, sparsity_p=sparsity_p, min_sparsity_p=minimum, max_sparsity_p=maximum)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this server's options beside vLLM's."""
    request, sparsity = ServerSettings(), SparsityConfig()
    group = parser.add_argument_group("Winnow", "Top-p sparse attention and KV pruning.")
    group.add_argument(
        "--sparsity-p",
        type=float,
        default=request.sparsity_p,
        help="Share of the attention mass to keep for requests that do not say; 1 is dense.",
    )
    group.add_argument(
        "--min-sparsity-p",
        type=float,
        default=request.min_sparsity_p,
        help="Smallest sparsity_p that a request may ask for; 0 allows every value above 0.",
    )
    group.add_argument(
        "--max-sparsity-p",
        type=float,
        default=request.max_sparsity_p,
        help="Largest sparsity_p that a request may ask for.",
    )
    group.add_argument(
        "--selection",
        choices=SERVED_SELECTIONS,
        default=sparsity.selection,
        help="zipvl: selected queries attend selected keys; keys: every query is computed, keys and values are pruned.",
    )
    group.add_argument(
        "--num-recent-probes",
        type=int,
        default=sparsity.num_recent_probes,
        help="Most recent prompt rows that estimate importance.",
    )
    group.add_argument(
        "--num-random-probes",
        type=int,
        default=sparsity.num_random_probes,
        help="Seeded-random earlier prompt rows that estimate importance.",
    )
    group.add_argument(
        "--exact",
        action=argparse.BooleanOptionalAction,
        default=sparsity.exact,
        help="Estimate importance from every prompt row: slower, without sampling error.",
    )
    group.add_argument(
        "--num-sink-tokens",
        type=int,
        default=sparsity.num_sink_tokens,
        help="First prompt tokens that are always kept.",
    )
    group.add_argument(
        "--num-recent-tokens",
        type=int,
        default=sparsity.num_recent_tokens,
        help="Last prompt tokens that are always kept.",
    )
    group.add_argument(
        "--readiness-timeout",
        type=float,
        default=request.readiness_timeout_s,
        help="Seconds that the engine may generate nothing, though asked to, before GET /readyz answers 503.",
    )
    group.add_argument(
        "--ranking",
        choices=RANKINGS,
        default=sparsity.ranking,
        help="For benchmarks only: keep as many tokens as `--selection` says, but random or the most recent ones "
        "instead of those with attention. Responses say so in usage.sparsity.ranking.",
    )
    add_media_arguments(parser)
    add_access_arguments(parser)
    add_limit_arguments(parser)
