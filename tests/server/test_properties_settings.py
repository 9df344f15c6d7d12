"""Any text behind an option of ours: a setting within its range, or one sentence that names the option.

`pytest --hypothesis-profile=wide tests/server/test_properties_settings.py` draws 2,000 command lines for each test.
"""

import argparse
import math
from dataclasses import fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attention_backend.errors import InvalidSparsityConfig, WinnowError
from server.settings import ServerSettings, add_arguments
from tests.server.outcomes import outcome
from tests.server.strategies import numbers, texts


class ParserError(Exception):
    """argparse ends the process otherwise."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise ParserError(message)


def parser() -> Parser:
    parser = Parser(allow_abbrev=False, add_help=False)
    add_arguments(parser)
    return parser


def settings_of(argv: list[str]) -> ServerSettings:
    return ServerSettings.from_args(parser().parse_args(argv))


# Paths are read from the disk; tests/server/access/test_properties_policies.py has the key file.
OPTIONS = sorted(
    action.option_strings[0]
    for action in parser()._actions
    if not isinstance(action, argparse.BooleanOptionalAction) and action.dest != "api_keys_file"
)
words = numbers.map(repr) | st.integers(-2, 100_000).map(str) | texts | st.sampled_from(["keys", "open", "1e3", "0x10"])


@given(st.dictionaries(st.sampled_from(OPTIONS), words, min_size=1, max_size=4))
@example({"--max-body-mib": "2049"})
@example({"--max-video-pixels": "1073741825"})
def test_a_setting_in_its_range_or_a_sentence_that_names_the_option(given_options):
    argv = [f"{flag}={word}" for flag, word in given_options.items()]
    settings, refused = outcome((ParserError, WinnowError), settings_of, argv)
    if isinstance(refused, InvalidSparsityConfig):
        assert any(flag[2:].replace("-", "_") in str(refused) for flag in given_options)
    elif refused:
        assert any(flag in str(refused) for flag in given_options)
    else:
        for part in (settings, settings.media, settings.access, settings.limits):
            for option in fields(part):
                value = getattr(part, option.name)
                assert not isinstance(value, float) or math.isfinite(value), option.name
                assert not isinstance(value, int) or value >= 0, option.name


def test_every_option_of_ours_is_drawn():
    assert len(OPTIONS) > 30
    with pytest.raises(ParserError):
        parser().parse_args(["--no-such-option=1"])
