"""The order of the layers, and vLLM's options that choose among them."""

from types import SimpleNamespace

from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.middleware import Middleware

from server.access.hosts import Hosts
from server.access.policies import read_policies
from server.access.settings import AccessSettings
from server.middleware import add_middleware, layers
from server.settings import ServerSettings

ENGINE = SimpleNamespace(
    scheduler_config=SimpleNamespace(max_num_seqs=8), get_num_unfinished_requests=lambda: 0, errored=False
)


def arguments(**changes) -> SimpleNamespace:
    defaults = {
        "host": "0.0.0.0",
        "uds": None,
        "disable_uvicorn_access_log": False,
        "disable_access_log_for_endpoints": "/livez, /readyz,",
    }
    return SimpleNamespace(**{**defaults, **changes})


def stack(**changes) -> list[Middleware]:
    return layers(arguments(**changes), ServerSettings(), ENGINE)


def names(**changes) -> list[str]:
    return [layer.cls.__name__ for layer in stack(**changes)]


def test_ids_come_first_and_the_log_sees_what_all_others_answer():
    assert names()[:2] == ["RequestIds", "AccessLog"]


def test_keys_come_before_everything_that_costs():
    assert names()[2:] == ["Keys", "Admission", "Deadlines", "Bodies", "Places", "Pixels"]


def test_on_loopback_without_keys_a_web_page_may_be_asking():
    assert names(host="127.0.0.1")[2:4] == ["Hosts", "Keys"]
    assert "Hosts" not in names(host="127.0.0.1", uds="/tmp/socket")
    access = AccessSettings(policies=read_policies(None, "alice=alice-0123456789abcdef", []))
    guarded = layers(arguments(host="127.0.0.1"), ServerSettings(access=access), ENGINE)
    assert Hosts not in [layer.cls for layer in guarded]


def test_vllms_options_choose_what_is_logged():
    assert "AccessLog" not in names(disable_uvicorn_access_log=True)
    assert stack()[1].kwargs["quiet_paths"] == {"/livez", "/readyz"}
    assert stack(disable_access_log_for_endpoints=None)[1].kwargs["quiet_paths"] == frozenset()


def test_layers_can_be_put_around_an_application_that_was_built_already():
    """vLLM builds it: its SageMaker routes need that."""
    app = FastAPI()
    app.middleware_stack = app.build_middleware_stack()
    add_middleware(app, arguments(), ServerSettings(), ENGINE)
    answer = TestClient(app).get("/nowhere", headers={"X-Request-Id": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (404, "mine")
