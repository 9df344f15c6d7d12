"""Any key file, any variable: callers as written, or one sentence that repeats no key.

`pytest --hypothesis-profile=wide tests/server/access/test_properties_policies.py` draws 2,000 files for each test.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.access.policies import CallerEntry, digest_of, read_policies
from server.errors import InvalidServerSettings
from server.settings import AccessSettings, ServerSettings
from tests.server.outcomes import outcome
from tests.server.strategies import numbers, texts

visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
good_keys = st.text(visible, min_size=16, max_size=40).filter(lambda key: not key.startswith("sha256:"))
good_names = st.text(st.sampled_from("abcXYZ019._-"), min_size=1, max_size=64)
shares = st.floats(0.0, 1.0, exclude_min=True)

policies = st.fixed_dictionaries(
    {"keys": st.lists(good_keys, min_size=1, max_size=3, unique=True)},
    optional={
        "operator": st.booleans(),
        "sparsity_p": shares,
        "min_sparsity_p": shares,
        "max_sparsity_p": shares,
        "requests_per_minute": st.integers(0, 10**6),
        "concurrent_requests": st.integers(0, 10**6),
    },
)
toml_values = st.one_of(
    numbers.filter(lambda value: not isinstance(value, int) or abs(value) < 2**63), st.booleans(), texts,
    st.lists(texts, max_size=3), st.lists(good_keys, max_size=2),
)  # fmt: skip
tables = st.dictionaries(st.sampled_from([*CallerEntry.model_fields, "key"]) | texts, toml_values, max_size=5)


def toml_of(callers: dict[str, dict]) -> str:
    """Quoted strings of JSON without halves of surrogate pairs are strings of TOML; so are its other values here."""
    lines = []
    for name, table in callers.items():
        lines.append(f"[{json.dumps(name)}]")
        lines += [f"{json.dumps(field)} = {_value(value)}" for field, value in table.items()]
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def read(content: bytes | str, named: str | None = None):
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        Path(file.name).write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        return read_policies(file.name, named, [])


def secrets_of(callers: dict[str, dict]) -> list[str]:
    return [
        key
        for table in callers.values()
        for value in table.values()
        if isinstance(value, list)
        for key in value
        if isinstance(key, str) and len(key) >= 16
    ]


@given(st.dictionaries(good_names, policies, max_size=3))
def test_what_is_written_well_is_read_as_it_is(callers):
    keys = [key for table in callers.values() for key in table["keys"]]
    assume(len(set(keys)) == len(keys))
    read_back = {policy.name: policy for policy in read(toml_of(callers))}
    assert set(read_back) == set(callers)
    for name, table in callers.items():
        assert set(read_back[name].digests) == {digest_of(key) for key in table["keys"]}
        assert not read_back[name].entry.keys
        for field in set(table) - {"keys"}:
            assert getattr(read_back[name].entry, field) == table[field]


@given(st.dictionaries(good_names | texts, tables, max_size=3))
def test_other_tables_are_read_or_refused_without_a_word_of_a_key(callers):
    _, refused = outcome(InvalidServerSettings, read, toml_of(callers))
    if refused:
        assert not any(secret in str(refused) for secret in secrets_of(callers))
        assert ".toml" in str(refused) or "caller" in str(refused)


@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused(content):
    _, refused = outcome(InvalidServerSettings, read, content)
    assert refused is None or "--api-keys-file is " in str(refused) or ".toml: [" in str(refused)


@given(texts | st.lists(st.builds("{}={}".format, good_names, good_keys), max_size=3).map(" ".join))
def test_any_variable_is_read_or_refused_without_a_word_of_a_key(text):
    read_back, refused = outcome(InvalidServerSettings, read_policies, None, text, [])
    if refused:
        pairs = [pair.partition("=") for pair in text.split()]
        # A key that is also a name is said as a name.
        secrets = {secret for _, _, secret in pairs} - {name for name, _, _ in pairs}
        assert not any(len(secret) >= 16 and secret in str(refused) for secret in secrets)
    else:
        assert len(read_back) == len(text.split())


@given(key=good_keys, other=good_keys | texts)
def test_no_other_key_is_taken_for_a_key(key, other):
    digest = hashlib.sha256(key.encode()).hexdigest()
    (policy,) = read(f'[a]\nkeys = ["sha256:{digest}"]')
    assert (digest_of(other.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")) in policy.digests) == (
        other == key
    )


@given(policies, st.tuples(shares, shares).map(sorted))
def test_a_caller_never_leaves_the_servers_bounds(table, bounds):
    (policy,) = read(toml_of({"a": table}))
    server = ServerSettings(bounds[1], *bounds, access=AccessSettings(policies=(policy,)))
    own, refused = outcome(InvalidServerSettings, server.narrowed, policy)
    wanted = [table.get(name, getattr(server, name)) for name in ("min_sparsity_p", "sparsity_p", "max_sparsity_p")]
    is_within = bounds[0] <= wanted[0] <= wanted[1] <= wanted[2] <= bounds[1]
    assert (refused is None) == is_within
    if refused:
        assert "The caller a has " in str(refused)
    else:
        assert [own.min_sparsity_p, own.sparsity_p, own.max_sparsity_p] == wanted


@pytest.mark.parametrize("depth", [5000])
def test_a_nested_file_is_refused(depth):
    with pytest.raises(InvalidServerSettings):
        read("a = " + "[" * depth + "]" * depth)
