"""Engine-level options of the selection: one frozen object for the whole life of an engine."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from attention_backend.errors import InvalidSparsityConfig

Selection = Literal["zipvl", "keys", "fixed"]
SELECTIONS: tuple[str, ...] = get_args(Selection)
# "fixed" does not follow the request's `sparsity_p`, so nobody is served with it.
SERVED_SELECTIONS = ("zipvl", "keys")

Ranking = Literal["attention", "random", "recent"]
RANKINGS: tuple[str, ...] = get_args(Ranking)

# Key under which the options travel in vLLM's `additional_config`.
CONFIG_KEY = "winnow"


@dataclass(frozen=True, slots=True)
class SparsityConfig:
    """How kept tokens are chosen.

    Attributes:
        selection: "zipvl" lets selected queries attend selected keys (ZipVL section 4, the mode of
            the published ratios); "keys" computes every query and prunes keys and values only; "fixed", for
            benchmarks, is "zipvl" with a given number of tokens, whatever the model attends to.
        num_recent_probes: most recent prompt rows used as probe queries.
        num_random_probes: seeded-random earlier prompt rows used as probe queries.
        exact: use every prompt row as a probe (slower, no sampling error).
        num_sink_tokens: first prompt tokens that are always kept.
        num_recent_tokens: last prompt tokens that are always kept.
        fixed_token_ratio: share of the prompt tokens that selection "fixed" keeps in every layer, in (0, 1].
        ranking: which tokens the kept ones are, as many as `selection` says. "attention" keeps those of highest score;
            "random" and "recent", for benchmarks, are what any selection must beat at an equal number of tokens.

    Raises:
        InvalidSparsityConfig: a value is out of range.
    """

    selection: Selection = "zipvl"
    num_recent_probes: int = 64
    num_random_probes: int = 64
    exact: bool = False
    num_sink_tokens: int = 0
    num_recent_tokens: int = 4
    fixed_token_ratio: float | None = None
    ranking: Ranking = "attention"

    def __post_init__(self) -> None:
        self._check_choice("selection", SELECTIONS)
        self._check_choice("ranking", RANKINGS)
        if not isinstance(self.exact, bool):
            raise InvalidSparsityConfig(f"exact is {self.exact!r}, but must be true or false.")
        self._check_count("num_recent_probes", minimum=1)
        self._check_count("num_random_probes", minimum=0)
        self._check_count("num_sink_tokens", minimum=0)
        self._check_count("num_recent_tokens", minimum=1)
        self._check_fixed_token_ratio()

    def _check_choice(self, field: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, field)
        if value not in choices:
            raise InvalidSparsityConfig(
                f"{field} is {value!r}, but must be one of {', '.join(choices)}. Choose one of these."
            )

    def _check_count(self, field: str, minimum: int) -> None:
        value = getattr(self, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise InvalidSparsityConfig(
                f"{field} is {value!r}, but must be a whole number of at least {minimum}. Give such a number."
            )

    def _check_fixed_token_ratio(self) -> None:
        ratio = self.fixed_token_ratio
        if self.selection != "fixed":
            if ratio is not None:
                raise InvalidSparsityConfig(
                    f"fixed_token_ratio is {ratio!r} and selection {self.selection!r}, but only selection 'fixed' has "
                    "a fixed ratio. Leave fixed_token_ratio out."
                )
        elif isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
            raise InvalidSparsityConfig(
                f"fixed_token_ratio is {ratio!r}, but selection 'fixed' needs a number in (0, 1]. "
                "Give such a number, or choose another selection."
            )

    @classmethod
    def from_additional_config(cls, additional_config: Mapping[str, Any] | None) -> "SparsityConfig":
        """Read the options from vLLM's `additional_config`.

        Args:
            additional_config: `VllmConfig.additional_config`; absent options take their defaults.

        Raises:
            InvalidSparsityConfig: an option is unknown or out of range.
        """
        options = dict((additional_config or {}).get(CONFIG_KEY, {}))
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(options) - known):
            raise InvalidSparsityConfig(
                f"additional_config[{CONFIG_KEY!r}] holds {', '.join(unknown)}, but knows only "
                f"{', '.join(sorted(known))}. Remove or rename it."
            )
        return cls(**options)

    def to_additional_config(self) -> dict[str, dict[str, Any]]:
        """The mapping that `from_additional_config` reads."""
        return {CONFIG_KEY: asdict(self)}
