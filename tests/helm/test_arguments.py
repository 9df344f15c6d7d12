"""The options that the chart gives the server, read by the server's own parser."""

import json

import pytest

from server.command_line import parse
from tests.helm.chart import KEY, server_container


def parsed(manifests):
    return parse(server_container(manifests)["args"])


def test_every_file_of_values_gives_options_that_the_server_takes(manifests, tmp_path):
    arguments = server_container(manifests)["args"]
    assert all(isinstance(argument, str) for argument in arguments)
    # What the secret of an example holds.
    (tmp_path / "keys.toml").write_text(f"[alice]\nkeys = ['{KEY}']\n")
    args, settings = parse([argument.replace("/etc/winnow", str(tmp_path)) for argument in arguments])
    assert (args.host, args.port) == ("0.0.0.0", 8000)
    assert args.shutdown_timeout > 0
    assert settings.min_sparsity_p <= settings.sparsity_p <= settings.max_sparsity_p
    assert settings.access.asks_for_keys == any("keys-file" in argument for argument in arguments)


def test_values_become_options(helm4):
    sets = (
        "model.name=some/model,model.servedName=vlm,model.revision=abc,model.tokenizer=some/tokenizer,"
        "model.maxModelLen=1048576,model.dtype=bfloat16,sparsity.default=0.9,sparsity.min=0.25,sparsity.max=0.975,"
        "sparsity.selection=keys,parallel.tensor=2,shutdown.drainSeconds=45"
    )
    args, settings = parsed(helm4.render("--set", sets))
    assert (args.model, args.served_model_name, args.revision) == ("some/model", ["vlm"], "abc")
    assert (args.tokenizer, args.max_model_len, args.dtype) == ("some/tokenizer", 1048576, "bfloat16")
    assert (args.tensor_parallel_size, args.shutdown_timeout) == (2, 45)
    assert (settings.min_sparsity_p, settings.sparsity_p, settings.max_sparsity_p) == (0.25, 0.9, 0.975)
    assert settings.sparsity.selection == "keys"


def test_defaults_are_the_server_s(helm4):
    args, settings = parsed(helm4.render())
    plain_args, plain_settings = parse(["--model", "demo"])
    assert settings == plain_settings
    same = set(vars(args)) - {"host", "shutdown_timeout"}
    assert {name: getattr(args, name) for name in same} == {name: getattr(plain_args, name) for name in same}


@pytest.mark.parametrize(
    "argument", ["yes", "1e3", "null", "two words", "a: b", "#", '{"a": "b\'c"}', "$(HOME)", "back\\slash", "- x", ""]
)
def test_extra_arguments_arrive_as_they_were_written(helm, tmp_path, argument):
    values = tmp_path / "values.json"
    values.write_text(json.dumps({"extraArgs": ["--chat-template", argument]}))
    assert server_container(helm.render("--values", values))["args"][-2:] == ["--chat-template", argument]


def test_extra_arguments_come_last_and_win(helm4):
    args, _ = parsed(helm4.render("--set", "extraArgs={--host,::}"))
    assert args.host == "::"
