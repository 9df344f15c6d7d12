"""The guard of everything that this server leans on inside vLLM: it fails on an upgrade before a user does."""

import pytest
from vllm.v1.engine.async_llm import AsyncLLM

from attention_backend import UnsupportedConfiguration
from server.vllm_hooks import become, check_hooks


def test_the_pinned_vllm_has_every_hook():
    check_hooks()


def test_a_changed_hook_is_named():
    with pytest.raises(UnsupportedConfiguration, match=r"AsyncLLM.generate takes .* begin with \(self, wish\)"):
        check_hooks({AsyncLLM.generate: ("self", "wish")})


class Base:
    pass


class Other(Base):
    pass


class Ours(Base):
    pass


def test_an_object_of_exactly_the_base_class_becomes_ours():
    instance = Base()
    instance.kept = 1
    become(instance, Ours)
    assert type(instance) is Ours
    assert instance.kept == 1


def test_an_object_of_another_class_is_refused():
    with pytest.raises(UnsupportedConfiguration, match="vLLM uses Other, but Ours extends Base"):
        become(Other(), Ours)
