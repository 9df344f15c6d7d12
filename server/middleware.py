"""The layers around vLLM's application, outermost first, in one list."""

import argparse

from fastapi import FastAPI
from starlette.middleware import Middleware

from server.access.admission import Admission, Capacity, Places
from server.access.callers import anonymous, callers_of
from server.access.hosts import Hosts
from server.access.keys import Keys
from server.access.paths import DOCS, METRICS, PROBES
from server.access.routes import open_paths
from server.access_log import AccessLog
from server.engine import SparseAsyncLLM
from server.limits.bodies import Bodies
from server.limits.deadlines import Deadlines
from server.media.pixels import Pixels
from server.ready import LOOPBACK
from server.refusals import refused_requests
from server.request_ids import RequestIds
from server.settings import ServerSettings


def add_middleware(app: FastAPI, args: argparse.Namespace, settings: ServerSettings, engine: SparseAsyncLLM) -> None:
    """Put the layers around what vLLM built, its own middleware and `--middleware` included.

    Args:
        app: vLLM's application, not yet started.
        args: vLLM's arguments.
        settings: ours.
        engine: the one that answers.
    """
    refused_requests()
    # vLLM has built its own layers already, and `add_middleware` comes too late then.
    stack = app.middleware_stack or app.build_middleware_stack()
    for layer in reversed(layers(args, settings, engine)):
        stack = layer.cls(stack, *layer.args, **layer.kwargs)
    app.middleware_stack = stack


def layers(args: argparse.Namespace, settings: ServerSettings, engine: SparseAsyncLLM) -> list[Middleware]:
    """What every request passes on its way in."""
    stack = [Middleware(RequestIds)]
    if not args.disable_uvicorn_access_log:
        stack.append(Middleware(AccessLog, quiet_paths=_listed(args.disable_access_log_for_endpoints)))
    access, limits = settings.access, settings.limits
    if args.host in LOOPBACK and not args.uds and not access.asks_for_keys:
        stack.append(Middleware(Hosts, access.allowed_hosts))
    max_in_flight = engine.scheduler_config.max_num_seqs + access.max_queued_requests
    capacity = Capacity(max_in_flight, engine.get_num_unfinished_requests, free_paths=PROBES | METRICS | DOCS)
    return [
        *stack,
        Middleware(Keys, callers_of(settings), anonymous(settings), open_paths(access)),
        Middleware(Admission, capacity),
        Middleware(Deadlines, limits.max_request_s),
        Middleware(Bodies, limits),
        Middleware(Places, capacity),
        Middleware(Pixels, settings.media.max_decoded_pixels),
    ]


def _listed(paths: str | None) -> frozenset[str]:
    """vLLM's option: paths between commas."""
    return frozenset(path.strip() for path in (paths or "").split(",") if path.strip())
