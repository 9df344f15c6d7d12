"""Options about the size of one request."""

import argparse
from dataclasses import dataclass, fields

from server.errors import InvalidServerSettings
from server.flags import flag

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may be and ask for, beside the limits that vLLM's own options set.

    Attributes:
        max_body_mib: body of a request.
        max_bodies_mib: bodies of all requests in flight.
        max_json_values: list items and fields in a body, at any depth.
        max_upload_s: until the whole body is there.
        max_request_s: until the whole answer is there, the body's way here included.
        max_sequences: prompts times `n`.
        max_text_chars: all text of a request, before it is tokenized.
        max_prompt_tokens: of one prompt, pictures included; 0 for as many as the model takes.
        max_output_tokens: of one sequence; 0 for as many as the model takes.
        max_list_items: entries of `logit_bias` and of lists of tokens and words.
        max_schema_kib: JSON schema, grammar, or choices that the answer must fit.
        max_regex_chars: regular expression that the answer must fit, or that a schema holds.

    Raises:
        InvalidServerSettings: a value is out of range.
    """

    max_body_mib: int = 64
    max_bodies_mib: int = 2048
    max_json_values: int = 1 << 20
    max_upload_s: float = 60.0
    max_request_s: float = 600.0
    max_sequences: int = 128
    max_text_chars: int = 4_000_000
    max_prompt_tokens: int = 0
    max_output_tokens: int = 0
    max_list_items: int = 1024
    max_schema_kib: int = 32
    max_regex_chars: int = 1024

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_body_mib", 1, 65_536),
            ("max_bodies_mib", 1, 1 << 20),
            ("max_json_values", 1, 1 << 30),
            ("max_upload_s", 0.1, 86_400),
            ("max_request_s", 0.1, 86_400),
            ("max_sequences", 1, 16_384),
            ("max_text_chars", 1, 1 << 40),
            ("max_prompt_tokens", 0, 1 << 40),
            ("max_output_tokens", 0, 1 << 40),
            ("max_list_items", 1, 1 << 20),
            ("max_schema_kib", 1, 65_536),
            ("max_regex_chars", 1, 1 << 20),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidServerSettings(
                    f"{flag(name)} is {value}, but must lie between {low} and {high}. Choose such a value."
                )
        if self.max_bodies_mib < self.max_body_mib:
            raise InvalidServerSettings(
                f"--max-bodies-mib is {self.max_bodies_mib} and --max-body-mib is {self.max_body_mib}, but all bodies "
                "together must have room for one. Raise the first or lower the second."
            )

    @property
    def max_body_bytes(self) -> int:
        """`max_body_mib` in bytes."""
        return self.max_body_mib * MIB

    @property
    def max_bodies_bytes(self) -> int:
        """`max_bodies_mib` in bytes."""
        return self.max_bodies_mib * MIB

    @property
    def max_schema_bytes(self) -> int:
        """`max_schema_kib` in bytes."""
        return self.max_schema_kib * KIB

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> "RequestLimits":
        """Read the options that `add_limit_arguments` declared.

        Raises:
            InvalidServerSettings: a value is out of range.
        """
        return cls(**{option.name: getattr(args, option.name) for option in fields(cls)})


# Option to its help; type and default are those of the field.
HELP = {
    "max_body_mib": "Largest body of a request in MiB.",
    "max_bodies_mib": "Bodies of all requests in flight together, in MiB; more get HTTP 503.",
    "max_json_values": "Values in the JSON of a request: list items and fields, at any depth.",
    "max_upload_s": "Seconds until the whole body of a request must be there.",
    "max_request_s": "Seconds until the whole answer must be there; then the request ends with an error.",
    "max_sequences": "Sequences that one request may ask for: its prompts times n.",
    "max_text_chars": "Characters of text in a request, before it is tokenized.",
    "max_prompt_tokens": "Longest prompt in tokens, pictures included; 0 for as many as the model takes.",
    "max_output_tokens": "Longest answer in tokens; 0 for as many as the model takes.",
    "max_list_items": "Entries of logit_bias, stop_token_ids and other lists of tokens and words.",
    "max_schema_kib": "Largest JSON schema, grammar or list of choices that an answer must fit, in KiB.",
    "max_regex_chars": "Longest regular expression that an answer must fit.",
}


def add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options about the size of one request."""
    group = parser.add_argument_group("Winnow limits", "How large one request may be.")
    for option in fields(RequestLimits):
        group.add_argument(flag(option.name), type=type(option.default), default=option.default, help=HELP[option.name])
