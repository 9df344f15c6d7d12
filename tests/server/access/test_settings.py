"""Options about access, read from the command line and the environment."""

import os

import pytest

from server.command_line import parse
from server.errors import InvalidServerSettings

KEY, OTHER = "a" * 16, "b" * 16


@pytest.fixture(autouse=True)
def _no_keys_around(monkeypatch):
    for name in ("VLLM_API_KEY", "WINNOW_API_KEYS"):
        # Set first, so that what the test leaves is undone.
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def access_of(*options: str):
    return parse(["--model", "some/model", *options])[1].access


def test_the_defaults_ask_for_no_key_and_add_no_route():
    access = access_of()
    assert (access.policies, access.enable_routes, access.asks_for_keys) == ((), frozenset(), False)
    assert (access.metrics_access, access.docs_access, access.max_queued_requests) == ("key", "key", 512)


def test_options_are_read(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(f'[alice]\nkeys = ["{KEY}"]')
    access = access_of(
        "--api-keys-file", str(path), "--enable-routes", "/invocations", "/load", "--metrics-access", "open",
        "--docs-access", "off", "--requests-per-minute", "60", "--concurrent-requests", "4",
        "--max-queued-requests", "0",
    )  # fmt: skip
    assert [policy.name for policy in access.policies] == ["alice"]
    assert access.enable_routes == {"/invocations", "/load"}
    assert (access.metrics_access, access.docs_access) == ("open", "off")
    assert (access.requests_per_minute, access.concurrent_requests, access.max_queued_requests) == (60, 4, 0)


def test_vllms_keys_are_ours_and_leave_their_places(monkeypatch):
    """vLLM's own check would refuse the other keys."""
    args, settings = parse(["--model", "some/model", "--api-key", KEY, OTHER])
    assert args.api_key is None
    assert [(policy.name, len(policy.digests)) for policy in settings.access.policies] == [("default", 2)]
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    monkeypatch.setenv("WINNOW_API_KEYS", f"alice={OTHER}")
    assert [policy.name for policy in access_of().policies] == ["alice", "default"]
    assert not {"VLLM_API_KEY", "WINNOW_API_KEYS"} & set(os.environ)


@pytest.mark.parametrize("name", ["requests-per-minute", "concurrent-requests", "max-queued-requests"])
def test_negative_counts_stop_the_start(name):
    with pytest.raises(InvalidServerSettings, match=rf"--{name} is -1, but must not be negative"):
        access_of(f"--{name}", "-1")


@pytest.mark.parametrize(
    ("entry", "numbers"),
    [
        ("min_sparsity_p = 0.1", "min_sparsity_p 0.1, sparsity_p 0.8 and max_sparsity_p 0.9"),
        ("max_sparsity_p = 0.95", "min_sparsity_p 0.2, sparsity_p 0.8 and max_sparsity_p 0.95"),
        ("max_sparsity_p = 0.7", "sparsity_p 0.8 and max_sparsity_p 0.7"),
        ("sparsity_p = 0.95", "sparsity_p 0.95 and max_sparsity_p 0.9"),
        ("sparsity_p = nan", "sparsity_p nan"),
    ],
)
def test_a_callers_bounds_stay_within_the_servers(tmp_path, entry, numbers):
    path = tmp_path / "keys.toml"
    path.write_text(f'[alice]\nkeys = ["{KEY}"]\n{entry}')
    options = ["--sparsity-p", "0.8", "--min-sparsity-p", "0.2", "--max-sparsity-p", "0.9"]
    with pytest.raises(InvalidServerSettings, match=rf"The caller alice has .*{numbers}.* 0\.2 to 0\.9\. Correct"):
        access_of("--api-keys-file", str(path), *options)
