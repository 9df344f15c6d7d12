"""Keys and policies as the operator writes them; no message repeats a key."""

import hashlib

import pytest

from server.access.policies import digest_of, read_policies
from server.errors import InvalidServerSettings

KEY, OTHER = "a" * 16, "b" * 16


@pytest.fixture
def written(tmp_path):
    """The path of a key file."""

    def write(text: str) -> str:
        path = tmp_path / "keys.toml"
        path.write_text(text)
        return str(path)

    return write


def test_a_file_names_callers_with_keys_and_policies(written):
    digest = hashlib.sha256(b"secret of bob's choice").hexdigest()
    path = written(f'[alice]\nkeys = ["{KEY}", "{OTHER}"]\nrequests_per_minute = 60\n[bob]\nkeys = ["sha256:{digest}"]')
    alice, bob = read_policies(path, None, [])
    assert (alice.name, alice.digests) == ("alice", (digest_of(KEY), digest_of(OTHER)))
    assert (alice.entry.requests_per_minute, alice.entry.operator) == (60, False)
    assert (bob.name, bob.digests) == ("bob", (digest_of("secret of bob's choice"),))


def test_the_environment_and_vllms_option_name_more(written):
    path = written(f'[alice]\nkeys = ["{KEY}"]')
    policies = read_policies(path, f"bob={OTHER}  eve={'c' * 16}", ["d" * 16, "e" * 16])
    assert [(policy.name, len(policy.digests)) for policy in policies] == [
        ("alice", 1), ("bob", 1), ("eve", 1), ("default", 2),
    ]  # fmt: skip


def test_keys_are_not_kept(written):
    (policy,) = read_policies(written(f'[alice]\nkeys = ["{KEY}"]'), None, [])
    assert KEY not in repr(policy)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[a]\nkeys = ["short"]', r"\[a\] key 1 has 5 characters, but a key must have at least 16"),
        (f'[a]\nkeys = ["{KEY} x"]', "all visible ASCII"),
        (f'[a]\nkeys = ["sha256:{KEY}"]', "64 hexadecimal digits"),
        ("[a]\nkeys = []", r"\[a\] keys: List should have at least 1 item"),
        ("[a]", r"\[a\] keys: Field required"),
        (f'[a]\nkeys = ["{KEY}"]\nmin_sparsty_p = 0.5', r"\[a\] min_sparsty_p: Extra inputs are not permitted"),
        (f'[a]\nkeys = ["{KEY}"]\nrequests_per_minute = -1', r"requests_per_minute: .*greater than or equal to 0"),
        (f'[a]\nkeys = ["{KEY}"]\noperator = "yes"', r"operator: Input should be a valid boolean"),
        (f'a = "{KEY}"', r"\[a\] this: Input should be"),
        (f'["a b"]\nkeys = ["{KEY}"]', r"\[a b\] is no name"),
        (f'[a]\nkeys = ["{KEY}"]\n[b]\nkeys = ["{KEY}"]', "callers a and b have the same key"),
        ("[a", "cannot be read"),
    ],
)
def test_a_broken_rule_stops_the_start(written, text, sentence):
    with pytest.raises(InvalidServerSettings, match=sentence) as refused:
        read_policies(written(text), None, [])
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("named", "unnamed", "sentence"),
    [
        (KEY, [], "WINNOW_API_KEYS: entry 1 has no `=`"),
        (f"a={KEY} a={OTHER}", [], "The caller a is there twice"),
        (f"a={KEY}", [KEY], "callers a and default have the same key"),
        (None, ["short"], "--api-key key 1 has 5 characters"),
    ],
)
def test_a_broken_rule_outside_a_file(named, unnamed, sentence):
    with pytest.raises(InvalidServerSettings, match=sentence) as refused:
        read_policies(None, named, unnamed)
    assert KEY not in str(refused.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(InvalidServerSettings, match=r"--api-keys-file is /no/such/file, but cannot be read"):
        read_policies("/no/such/file", None, [])
