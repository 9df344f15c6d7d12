"""The routes that are left of vLLM's own application, and who may call them."""

import anyio
import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount
from vllm.entrypoints.launchers.app import build_app

from server.access.callers import anonymous, begin_call, callers_of
from server.access.paths import SERVED
from server.access.policies import read_policies
from server.access.routes import keep_routes, open_paths
from server.access.settings import AccessSettings
from server.command_line import parse
from server.errors import InvalidServerSettings
from server.settings import ServerSettings

CHANGING = {"/scale_elastic_ep", "/is_scaling_elastic_ep"}
GENERATING = {"/invocations", "/generative_scoring", "/v1/systemone", "/inference/v1/generate"}
DEVELOPMENT = {
    "/sleep",
    "/wake_up",
    "/collective_rpc",
    "/server_info",
    "/reset_prefix_cache",
    "/pause",
    "/update_weights",
}


@pytest.fixture
def application(tmp_path, monkeypatch):
    """vLLM's application, with options and callers, and what is left of it."""

    def build(*options: str, operator: bool = False, **access) -> tuple[FastAPI, ServerSettings]:
        if operator:
            access["policies"] = read_policies(_key_file(tmp_path), None, [])
        args, _ = parse(["--model", "demo", *options])
        app = build_app(args, ("generate",))
        settings = ServerSettings(access=AccessSettings(**access))
        keep_routes(app, settings.access)
        return app, settings

    return build


def _key_file(folder) -> str:
    path = folder / "keys.toml"
    path.write_text(f'[boss]\nkeys = ["{"k" * 16}"]\noperator = true\n[user]\nkeys = ["{"u" * 16}"]\n')
    return str(path)


def paths(app: FastAPI) -> set[str]:
    return {route.path for route in app.routes}


def test_by_default_only_the_listed_routes_exist(application):
    app, _ = application()
    found = paths(app)
    assert found <= SERVED | {"/metrics", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
    assert found >= SERVED - {"/livez", "/readyz"} | {"/metrics", "/docs"}
    assert not found & (CHANGING | GENERATING)
    assert set(app.openapi()["paths"]) <= SERVED | {"/metrics"}


def test_vllms_development_mode_alone_adds_nothing(application, monkeypatch):
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    app, _ = application("--enable-scale-out")
    assert not paths(app) & (DEVELOPMENT | {"/v1/load_lora_adapter", "/inference/v1/abort_requests"})
    app, _ = application(operator=True, enable_routes=DEVELOPMENT | {"/v1/load_lora_adapter"})
    assert paths(app) > DEVELOPMENT


@pytest.mark.parametrize("exposure", ["key", "open", "off"])
def test_metrics_and_documents(application, exposure):
    app, settings = application(metrics_access=exposure, docs_access=exposure)
    exists = exposure != "off"
    for path in ("/metrics", "/docs", "/redoc", "/openapi.json"):
        assert (path in paths(app)) == exists
        assert (path in open_paths(settings.access)) == (exposure == "open")
    assert any(isinstance(route, Mount) and route.path == "/metrics" for route in app.routes) == exists


def test_a_route_that_vllm_does_not_have_stops_the_start(application):
    with pytest.raises(
        InvalidServerSettings, match=r"--enable-routes has /sleep, but .* /invocations .* vLLM's option"
    ):
        application(operator=True, enable_routes=frozenset({"/sleep"}))


def test_a_route_for_operators_needs_one(application):
    with pytest.raises(InvalidServerSettings, match=r"/scale_elastic_ep, which may change .* `operator = true`"):
        application(enable_routes=frozenset({"/scale_elastic_ep"}))


def call_as(app: FastAPI, caller, path: str) -> int:
    async def run() -> int:
        async def application(scope, receive, send) -> None:
            begin_call(caller)
            await app(scope, receive, send)

        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return (await client.post(path)).status_code

    return anyio.run(run)


def test_what_may_change_the_server_is_for_operators_only(application):
    app, settings = application(operator=True, enable_routes=frozenset({"/is_scaling_elastic_ep", "/load"}))
    boss, user = callers_of(settings)
    assert call_as(app, boss, "/is_scaling_elastic_ep") == 200
    assert call_as(app, user, "/is_scaling_elastic_ep") == 403
    assert call_as(app, anonymous(settings), "/is_scaling_elastic_ep") == 403
    assert call_as(app, boss, "/scale_elastic_ep") == 404
