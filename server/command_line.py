"""The command line: vLLM's own parser with our options beside its own, and what cannot be served refused early."""

import argparse
import os
from dataclasses import fields

import vllm.envs as envs
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

from attention_backend import UnsupportedConfiguration, engine_args
from server import demo
from server.media.startup import check_media_options
from server.settings import ServerSettings, add_arguments

# Where our defaults differ from vLLM's; options of the command line win.
DEFAULTS = {
    # Only this machine can reach the server.
    "host": "127.0.0.1",
    # vLLM's front end remembers a picture before the engine has it. When its request is refused or its client goes away
    # in between, the next request with this picture fails with HTTP 500, whoever sends it (vllm-project/vllm#46747,
    # #51897). Can go when a rejected or aborted request rolls that memory back.
    "mm_processor_cache_gb": 0,
    # Media of one prompt; vLLM's default is 999 of each kind.
    "limit_mm_per_prompt": {"image": 16, "video": 2, "audio": 2},
    # Requests in flight finish after a stop signal, within the 30 seconds that Kubernetes gives; vLLM cuts them off.
    "shutdown_timeout": 20,
    # Who asks these asks them every few seconds. Answers from 400 on are logged all the same.
    "disable_access_log_for_endpoints": "/livez,/readyz,/health,/metrics",
}


def parse(argv: list[str]) -> tuple[argparse.Namespace, ServerSettings]:
    """Parse the command line.

    Args:
        argv: the arguments without the program's name.

    Returns:
        vLLM's arguments, completed with what pruning needs, and the server's own settings.

    Raises:
        WinnowError: an option is out of range or excludes pruning.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    model = args.model = args.model_tag or args.model
    if demo.is_demo(model):
        demo.set_environment()
        args = parser.parse_args([*demo.options(model), *argv])
        args.model = str(demo.checkpoint(model))
    _refuse_other_launchers(args)
    _refuse_traces_without_times(args)
    _refuse_shared_request_ids()
    _refuse_pickles()
    _keep_gloo_at_home(args)
    settings = ServerSettings.from_args(args)
    check_media_options(args)
    _complete_engine_args(args, parser, settings)
    validate_parsed_serve_args(args)
    return args, settings


def _parser() -> FlexibleArgumentParser:
    parser = make_arg_parser(
        FlexibleArgumentParser(
            prog="python -m server",
            description="vLLM's OpenAI-compatible server with token pruning: requests choose `sparsity_p`. "
            "`--model demo` serves the bundled model.",
        )
    )
    add_arguments(parser)
    parser.set_defaults(**DEFAULTS)
    return parser


def _refuse_other_launchers(args: argparse.Namespace) -> None:
    """vLLM's parser also knows launchers that leave out the HTTP layer this server extends."""
    for is_at_fault, option, remedy in (
        (args.headless, "--headless", "Start one server for each node's own engine"),
        (args.grpc, "--grpc", "Use HTTP"),
        ((args.api_server_count or 1) > 1, "--api-server-count", "Set it to 1"),
    ):
        if is_at_fault:
            raise UnsupportedConfiguration(
                f"{option} is {getattr(args, option[2:].replace('-', '_'))}, but requests are checked and counted in "
                f"one HTTP process. {remedy}."
            )


def _refuse_traces_without_times(args: argparse.Namespace) -> None:
    """vLLM takes the times of a span from its statistics; without them the first request would end the engine."""
    if args.otlp_traces_endpoint is not None and args.disable_log_stats:
        raise UnsupportedConfiguration(
            f"--otlp-traces-endpoint is {args.otlp_traces_endpoint} and --disable-log-stats is set, but traces are "
            "made of these statistics. Leave one of them out."
        )


def _refuse_shared_request_ids() -> None:
    """Clients name their requests, and the engine must not take two for one."""
    if envs.VLLM_DISABLE_REQUEST_ID_RANDOMIZATION:
        raise UnsupportedConfiguration(
            "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION is set, but then a client can disturb another's request by giving "
            "its own the same name. Unset the variable."
        )


def _refuse_pickles() -> None:
    """What the processes of the engine send each other must not be able to run code."""
    if envs.VLLM_ALLOW_INSECURE_SERIALIZATION:
        raise UnsupportedConfiguration(
            "VLLM_ALLOW_INSECURE_SERIALIZATION is set, but then whoever reaches a socket of the engine can run code in "
            "it. Unset the variable."
        )


def _keep_gloo_at_home(args: argparse.Namespace) -> None:
    """Let torch's Gloo, through which workers of one machine meet, listen on loopback.

    By itself it listens on the address that the machine's name leads to, which in a container is the one that others
    reach. Whoever spreads an engine over machines chooses the interface.
    """
    is_alone = args.nnodes == 1 and args.data_parallel_address is None and args.data_parallel_backend == "mp"
    if is_alone and args.distributed_executor_backend in (None, "mp", "uni"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _complete_engine_args(args: argparse.Namespace, parser: argparse.ArgumentParser, settings: ServerSettings) -> None:
    """Write what the backend needs into vLLM's arguments.

    Raises:
        UnsupportedConfiguration: an option that was given contradicts it.
    """
    given = {
        option.name: getattr(args, option.name)
        for option in fields(AsyncEngineArgs)
        if hasattr(args, option.name) and getattr(args, option.name) != parser.get_default(option.name)
    }
    for name, value in engine_args(settings.sparsity, **given).items():
        setattr(args, name, value)
