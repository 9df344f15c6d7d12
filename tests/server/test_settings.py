"""The operator's default and bounds."""

import argparse

import pytest

from server.errors import InvalidServerSettings
from server.settings import ServerSettings, add_arguments


def test_defaults_serve_dense_and_allow_everything():
    settings = ServerSettings()
    assert (settings.sparsity_p, settings.min_sparsity_p, settings.max_sparsity_p) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("minimum", "maximum"), [(0.9, 0.5), (-0.1, 1.0), (0.0, 1.1), (0.0, 0.0), (float("nan"), 1.0), (0.5, float("nan"))]
)
def test_contradicting_bounds_are_refused(minimum, maximum):
    with pytest.raises(InvalidServerSettings, match=r"--min-sparsity-p is .* Choose such bounds"):
        ServerSettings(sparsity_p=0.5, min_sparsity_p=minimum, max_sparsity_p=maximum)


@pytest.mark.parametrize("sparsity_p", [0.0, -1.0, 1.5, float("nan"), 0.4, 0.8])
def test_default_outside_the_bounds_is_refused(sparsity_p):
    with pytest.raises(InvalidServerSettings, match=r"--sparsity-p is .* Change it"):
        ServerSettings(sparsity_p=sparsity_p, min_sparsity_p=0.5, max_sparsity_p=0.7)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_readiness_timeout_must_pass(seconds):
    with pytest.raises(InvalidServerSettings, match=r"--readiness-timeout is .* Choose one"):
        ServerSettings(readiness_timeout_s=seconds)


def test_bounds_are_inclusive():
    assert ServerSettings(sparsity_p=0.5, min_sparsity_p=0.5, max_sparsity_p=0.5).sparsity_p == 0.5


@pytest.mark.parametrize("selection", ["zipvl", "keys", "fixed"])
def test_only_what_follows_the_request_can_be_served(selection, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    if selection == "fixed":
        with pytest.raises(SystemExit):
            parser.parse_args(["--selection", selection])
        assert "choose from" in capsys.readouterr().err
    else:
        settings = ServerSettings.from_args(parser.parse_args(["--selection", selection]))
        assert (settings.sparsity.selection, settings.sparsity.fixed_token_ratio) == (selection, None)
