"""The start-up proof: a plugin that did not load must stop the start."""

import asyncio
from types import SimpleNamespace

import pytest

from server import proof
from server.errors import BackendNotLive
from server.proof import check_plugin_loads, prove_backend_is_live
from server.settings import ServerSettings


def engine(answer):
    async def collective_rpc(method):
        assert method == "winnow_status"
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(
        collective_rpc=collective_rpc,
        model_config=SimpleNamespace(get_num_layers=lambda parallel_config: 4),
        vllm_config=SimpleNamespace(parallel_config=None),
    )


def prove(answer) -> str:
    return asyncio.run(prove_backend_is_live(engine(answer), ServerSettings()))


LIVE = {"backend": "TopP", "num_layers": 4, "selection": "zipvl", "ranking": "attention"}


def test_live_workers_pass():
    assert prove([LIVE, LIVE]) == "TopP is live in 4 layers of 2 worker(s)."


@pytest.mark.parametrize(
    ("statuses", "sentence"),
    [
        ([LIVE, {**LIVE, "num_layers": 0}], "Worker 1 prunes 0 layers"),
        ([{**LIVE, "selection": "keys"}], "with selection keys"),
        ([{**LIVE, "ranking": "random"}], "and ranking random, but .* started with zipvl and attention"),
        (AttributeError("no such method"), "do not know `winnow_status`"),
    ],
    ids=["dead layers", "other selection", "other ranking", "stock worker"],
)
def test_anything_else_stops_the_start(statuses, sentence):
    with pytest.raises(BackendNotLive, match=sentence):
        prove(statuses)


def test_the_installed_plugin_loads():
    check_plugin_loads()


def test_a_plugin_that_is_not_allowed_is_named(monkeypatch):
    monkeypatch.setenv("VLLM_PLUGINS", "other")
    with pytest.raises(BackendNotLive, match="VLLM_PLUGINS is 'other', but must name `winnow`"):
        check_plugin_loads()


@pytest.mark.parametrize(("found", "sentence"), [([], "is not installed"), (["broken"], "does not load")])
def test_a_plugin_that_is_missing_or_broken_is_named(monkeypatch, found, sentence):
    def load():
        raise ImportError("no such module")

    plugins = [SimpleNamespace(name=name, load=load) for name in found]
    monkeypatch.setattr(proof, "entry_points", lambda **_: plugins)
    with pytest.raises(BackendNotLive, match=sentence):
        check_plugin_loads()
