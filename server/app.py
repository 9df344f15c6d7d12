"""vLLM's OpenAI application around our engine client, from the first line of start-up to shutdown."""

import argparse
import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import vllm.envs as envs
from fastapi import FastAPI
from huggingface_hub.errors import HFValidationError
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.usage.usage_lib import UsageContext
from vllm.v1.executor import Executor

from attention_backend.vllm_adapter.startup_checks import check_vllm_config
from server.access.routes import keep_routes
from server.drain import LAST_BYTES_S, Drain
from server.engine import SparseAsyncLLM
from server.errors import EXIT_INTERRUPTED, EngineDied, InvalidServerSettings
from server.last_resort import end_within
from server.limits.connections import LimitedHttp, end_stalled
from server.limits.validation import fail_fast
from server.media.connector import install as install_media_connector
from server.middleware import add_middleware
from server.notices import say
from server.openapi import describe_sparsity_p
from server.probes import Readiness, add_probes
from server.proof import check_plugin_loads, prove_backend_is_live
from server.ready import announce_when_ready
from server.serving import extend_serving
from server.settings import ServerSettings
from server.vllm_hooks import check_hooks
from server.watchdog import watched


async def serve(args: argparse.Namespace, settings: ServerSettings) -> None:
    """Serve until a signal arrives.

    Args:
        args: vLLM's arguments, completed by `command_line.parse`.
        settings: ours.

    Raises:
        WinnowError: the configuration excludes pruning, or the workers do not prune.
        EngineDied: a process of the engine died while it served.
    """
    check_hooks()
    check_plugin_loads()
    install_media_connector(settings.media)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt_start_up)
    sock = _bind(args)
    try:
        async with running_engine(args, settings) as engine:
            readiness = Readiness(engine, settings.readiness_timeout_s)
            await readiness.prove()
            app = await build_application(engine, args, settings)
            add_probes(app, readiness)
            keep_routes(app, settings.access)
            fail_fast(app)
            add_middleware(app, args, settings, engine)
            engine.drain = Drain(app, engine)
            engine.on_death = partial(_stop_http, app)
            try:
                shutdown = await _serve_http(app, sock, args, settings)
            finally:
                engine.drain = None
            if not engine.is_stopping:
                raise EngineDied
        await shutdown
    finally:
        sock.close()


def _bind(args: argparse.Namespace) -> socket.socket:
    """The server's socket, taken before the model loads.

    Raises:
        InvalidServerSettings: the address is taken or not this machine's.
    """
    try:
        _, sock = setup_server(args, reuse_port=False)
    except OSError as error:
        raise InvalidServerSettings(
            f"--host is {args.host} and --port is {args.port}, but this address cannot be bound: {error.strerror}. "
            "Choose another port or stop what uses it."
        ) from error
    end_stalled(sock)
    return sock


def _interrupt_start_up(*_) -> None:
    """Until vLLM's HTTP server takes the signals over.

    Raises:
        SystemExit: not KeyboardInterrupt, which vLLM swallows while it waits for its engine, and then waits on.
    """
    end_within()
    raise SystemExit(EXIT_INTERRUPTED)


@asynccontextmanager
async def running_engine(args: argparse.Namespace, settings: ServerSettings) -> AsyncIterator[SparseAsyncLLM]:
    """The engine, proven to prune."""
    engine_args, vllm_config = _engine_configuration(args)
    say(f"Winnow: loading {args.model} ...", args)
    engine = SparseAsyncLLM(
        vllm_config,
        Executor.get_class(vllm_config),
        log_stats=not engine_args.disable_log_stats,
        usage_context=UsageContext.OPENAI_API_SERVER,
        log_requests=engine_args.enable_log_requests,
        aggregate_engine_logging=engine_args.aggregate_engine_logging,
        settings=settings,
    )
    try:
        with watched(engine):
            await engine.reset_mm_cache()  # vLLM's profiling left dummy pictures there
            say(f"Winnow: {await prove_backend_is_live(engine, settings)}", args)
            yield engine
    finally:
        engine.shutdown(timeout=vllm_config.shutdown_timeout)


def _engine_configuration(args: argparse.Namespace) -> tuple[AsyncEngineArgs, VllmConfig]:
    """vLLM's configuration, checked before any process starts.

    Raises:
        InvalidServerSettings: there is no such model.
        UnsupportedConfiguration: it excludes pruning.
    """
    try:
        engine_args = AsyncEngineArgs.from_cli_args(args)
        vllm_config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    except (OSError, HFValidationError) as error:
        raise InvalidServerSettings(
            f"--model is {args.model}, but cannot be read: {str(error).splitlines()[0]} "
            "Give `demo`, a folder with a checkpoint, or the id of a model on the hub that this machine can reach."
        ) from error
    check_vllm_config(vllm_config)
    return engine_args, vllm_config


async def build_application(engine: SparseAsyncLLM, args: argparse.Namespace, settings: ServerSettings) -> FastAPI:
    """vLLM's application, with its serving objects and its schema extended."""
    supported_tasks = await engine.get_supported_tasks()
    app = build_app(args, supported_tasks, engine.model_config)
    await init_app_state(engine, app.state, args, supported_tasks)
    extend_serving(app.state, settings)
    describe_sparsity_p(app, settings)
    return app


def _stop_http(app: FastAPI) -> None:
    """What the watchdog's thread does; before the HTTP server starts and behind its end there is nothing to stop."""
    server = getattr(vars(app).get("state"), "server", None)
    if server is not None:
        server.should_exit = True


async def _serve_http(app: FastAPI, sock: socket.socket, args: argparse.Namespace, settings: ServerSettings):
    """vLLM's HTTP server with vLLM's options (as its own `build_and_serve` passes them).

    Two are added: a client that does not read its answer cannot keep the process alive, and one that does not finish
    the head of its request is not waited for.

    Returns:
        An awaitable that ends the HTTP server; to be awaited when the engine is gone.
    """
    log_config = get_uvicorn_log_config(args)
    announcement = asyncio.create_task(announce_when_ready(app, args, settings))
    try:
        return await serve_http(
            app,
            sock=sock,
            enable_ssl_refresh=args.enable_ssl_refresh,
            host=args.host,
            port=args.port,
            log_level=args.uvicorn_log_level,
            access_log=False,  # server/access_log.py says more
            timeout_keep_alive=envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
            ssl_keyfile=args.ssl_keyfile,
            ssl_certfile=args.ssl_certfile,
            ssl_ca_certs=args.ssl_ca_certs,
            ssl_cert_reqs=args.ssl_cert_reqs,
            ssl_ciphers=args.ssl_ciphers,
            h11_max_incomplete_event_size=args.h11_max_incomplete_event_size,
            h11_max_header_count=args.h11_max_header_count,
            timeout_graceful_shutdown=LAST_BYTES_S,
            http=LimitedHttp,
            **({} if log_config is None else {"log_config": log_config}),
        )
    finally:
        announcement.cancel()
