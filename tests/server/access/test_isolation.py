"""What one caller's request leaves behind, and what another one's finds of it."""

import contextvars

import pytest
from vllm.v1.engine.input_processor import InputProcessor

from server.access.callers import anonymous, begin_call, callers_of
from server.access.isolation import CACHE_SALT, IsolatedInputs, Owners, with_own_prefix_cache
from server.access.policies import read_policies
from server.access.settings import AccessSettings
from server.settings import ServerSettings

SETTINGS = ServerSettings(
    access=AccessSettings(policies=read_policies(None, "alice=alice-0123456789abcdef bob=bob-0123456789abcdef", []))
)
CALLERS = {caller.name: caller for caller in callers_of(SETTINGS)} | {"anonymous": anonymous(ServerSettings())}


@pytest.fixture
def as_caller():
    """Run a function as a caller would have it run; nobody's name runs it outside of requests."""

    def run(name: str | None, function, *args):
        context = contextvars.copy_context()
        if name is not None:
            context.run(begin_call, CALLERS[name])
        return context.run(function, *args)

    return run


@pytest.mark.parametrize("salt", [None, "mine"])
def test_prompts_of_callers_have_salts_of_their_own(as_caller, salt):
    prompt = {"prompt_token_ids": [1], **({CACHE_SALT: salt} if salt else {})}
    salts = [as_caller(name, with_own_prefix_cache, prompt)[CACHE_SALT] for name in ("alice", "bob", "alice")]
    assert salts[0] != salts[1]
    assert salts[0] == salts[2]
    assert prompt.get(CACHE_SALT) == salt


def test_a_salt_cannot_take_the_place_of_a_name(as_caller):
    forged = as_caller("alice", with_own_prefix_cache, {CACHE_SALT: "bob:"})
    assert forged[CACHE_SALT] != as_caller("bob", with_own_prefix_cache, {})[CACHE_SALT]


@pytest.mark.parametrize("name", [None, "anonymous"])
def test_where_no_key_tells_callers_apart_nothing_changes(as_caller, name):
    prompt = {"prompt_token_ids": [1]}
    assert as_caller(name, with_own_prefix_cache, prompt) is prompt
    assert as_caller(name, identifier, "hash") == "hash"


def identifier(mm_hash: str) -> str:
    """The name of a picture in the encoder's cache, without LoRA adapters."""
    return IsolatedInputs.__new__(IsolatedInputs)._get_mm_identifier(mm_hash, None)


def test_pictures_of_callers_have_names_of_their_own(as_caller):
    names = [as_caller(name, identifier, "hash") for name in ("alice", "bob", "alice")]
    assert names == ["alice:hash", "bob:hash", "alice:hash"]
    assert InputProcessor._get_mm_identifier(IsolatedInputs.__new__(IsolatedInputs), "hash", None) == "hash"


def test_stored_responses_are_those_of_who_made_them(as_caller):
    owners = Owners()
    as_caller("alice", owners.note, "resp_1")
    assert as_caller("alice", owners.may_see, "resp_1")
    assert not as_caller("bob", owners.may_see, "resp_1")
    assert not as_caller("anonymous", owners.may_see, "resp_1")
    assert not as_caller("alice", owners.may_see, "resp_2")
