"""The routes that exist: vLLM registers many, and most are off until somebody asks for them.

A route that is off is taken out of the application, so it is in no schema either.
"""

from http import HTTPStatus

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from attention_backend import UnsupportedConfiguration
from server.access.callers import current_caller
from server.access.paths import DOCS, METRICS, PROBES, SERVED
from server.access.settings import AccessSettings
from server.errors import InvalidServerSettings
from server.refusals import Reason, refusal


def keep_routes(app: FastAPI, access: AccessSettings) -> None:
    """Take every route out that is neither served by default nor asked for.

    What is asked for and not known to be harmless (it may put the engine to sleep, load weights, abort others'
    requests, or come with a later vLLM) is open to operators only.

    Args:
        app: with all its routes.
        access: which of them to keep.

    Raises:
        InvalidServerSettings: a route is asked for that vLLM does not have here.
        UnsupportedConfiguration: FastAPI keeps routes where they cannot be seen.
    """
    registered = {_path(route) for route in app.router.routes}
    for path in sorted(access.enable_routes - registered):
        raise InvalidServerSettings(
            f"--enable-routes has {path}, but vLLM has no such route with these options. The ones that are off: "
            f"{' '.join(sorted(registered - _default_paths(access)))}. Name one of them, or set vLLM's option for it."
        )
    kept = _default_paths(access) | access.enable_routes
    app.router.routes[:] = [route for route in app.router.routes if _path(route) in kept]
    for route in app.router.routes:
        if _path(route) in access.operator_paths:
            route.app = OperatorsOnly(route.app)


def open_paths(access: AccessSettings) -> frozenset[str]:
    """Those that ask for no key."""
    paths = set(PROBES)
    for exposure, group in ((access.metrics_access, METRICS), (access.docs_access, DOCS)):
        if exposure == "open":
            paths |= group
    return frozenset(paths)


def _path(route: BaseRoute) -> str:
    path = getattr(route, "path", None)
    if path is None:
        raise UnsupportedConfiguration(
            f"FastAPI holds routes in a {type(route).__name__}, but this server must see each of them. "
            "Install the FastAPI that constraints-cpu.txt and constraints-cuda.txt name."
        )
    return path


def _default_paths(access: AccessSettings) -> frozenset[str]:
    metrics = METRICS if access.metrics_access != "off" else frozenset()
    docs = DOCS if access.docs_access != "off" else frozenset()
    return SERVED | metrics | docs


class OperatorsOnly:
    """ASGI application of one route, behind its match: who is no operator is refused.

    Args:
        app: the route's own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = current_caller()
        if caller is not None and caller.is_operator:
            await self._app(scope, receive, send)
            return
        name = "nobody" if caller is None else caller.name
        answer = refusal(
            f"The key is that of {name}, but this route is for operators. Use an operator's key.",
            reason=Reason.FORBIDDEN,
            status=HTTPStatus.FORBIDDEN,
            error_type="PermissionDeniedError",
            param="Authorization",
        )
        await answer(scope, receive, send)
