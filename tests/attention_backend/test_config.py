"""Options: defaults, round trip, refusals."""

import pytest

from attention_backend import SparsityConfig, UnsupportedConfiguration, engine_args
from attention_backend.errors import InvalidSparsityConfig


def test_round_trip_through_additional_config():
    config = SparsityConfig(selection="keys", num_random_probes=7, exact=True, num_sink_tokens=2)
    assert SparsityConfig.from_additional_config(config.to_additional_config()) == config
    assert SparsityConfig.from_additional_config(None) == SparsityConfig()
    fixed = SparsityConfig(selection="fixed", fixed_token_ratio=0.25, ranking="random")
    assert SparsityConfig.from_additional_config(fixed.to_additional_config()) == fixed


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"selection": "top_k"}, "selection"),
        ({"num_recent_probes": 0}, "num_recent_probes"),
        ({"num_recent_tokens": 0}, "num_recent_tokens"),
        ({"num_sink_tokens": -1}, "num_sink_tokens"),
        ({"num_random_probes": 1.5}, "num_random_probes"),
        ({"num_random_probes": True}, "num_random_probes"),
        ({"exact": "yes"}, "exact"),
        ({"probes": 3}, "probes"),
        ({"selection": "fixed"}, "fixed_token_ratio is None, but selection 'fixed' needs"),
        ({"selection": "fixed", "fixed_token_ratio": 0}, "fixed_token_ratio is 0"),
        ({"selection": "fixed", "fixed_token_ratio": 1.5}, "fixed_token_ratio is 1.5"),
        ({"selection": "fixed", "fixed_token_ratio": "0.5"}, "fixed_token_ratio is '0.5'"),
        ({"selection": "fixed", "fixed_token_ratio": True}, "fixed_token_ratio is True"),
        ({"selection": "fixed", "fixed_token_ratio": float("nan")}, "fixed_token_ratio is nan"),
        ({"ranking": "best"}, "ranking is 'best', but must be one of attention, random, recent"),
        ({"ranking": ["random"]}, "ranking is"),
        ({"fixed_token_ratio": 0.25}, "fixed_token_ratio is 0.25 and selection 'zipvl'"),
    ],
)
def test_bad_options_are_named(options, field):
    with pytest.raises(InvalidSparsityConfig, match=field):
        SparsityConfig.from_additional_config({"winnow": options})


def test_engine_args_complete_vllm_arguments():
    arguments = engine_args(SparsityConfig(selection="keys"), model="m", additional_config={"other": 1})
    assert arguments["enable_chunked_prefill"] is False
    assert arguments["additional_config"]["other"] == 1
    assert SparsityConfig.from_additional_config(arguments["additional_config"]).selection == "keys"


def test_engine_args_keep_options_given_as_additional_config():
    given = SparsityConfig(num_sink_tokens=4).to_additional_config()
    assert SparsityConfig.from_additional_config(engine_args(additional_config=given)["additional_config"]) == (
        SparsityConfig(num_sink_tokens=4)
    )


@pytest.mark.parametrize("argument", [{"enable_chunked_prefill": True}, {"worker_cls": "other"}])
def test_engine_args_refuse_contradictions(argument):
    with pytest.raises(UnsupportedConfiguration, match=next(iter(argument))):
        engine_args(**argument)
