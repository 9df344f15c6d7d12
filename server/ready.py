"""What the person at the terminal reads when the server is ready."""

import argparse
import asyncio
import json
import shlex

from fastapi import FastAPI

from attention_backend import SparsityConfig
from server import demo
from server.notices import say
from server.settings import ServerSettings

POLL_INTERVAL_S = 0.05
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TEXT_REQUEST = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 32, "sparsity_p": 0.975}


async def announce_when_ready(app: FastAPI, args: argparse.Namespace, settings: ServerSettings) -> None:
    """Wait until vLLM's HTTP server accepts connections, then print how to ask it something."""
    while not getattr(getattr(app.state, "server", None), "started", False):
        await asyncio.sleep(POLL_INTERVAL_S)
    say(greeting(app, args, settings), args)


def greeting(app: FastAPI, args: argparse.Namespace, settings: ServerSettings) -> str:
    """Model, address and a curl line to paste."""
    model_config = app.state.vllm_config.model_config
    return (
        f"\nWinnow serves {model_config.served_model_name} at {base_url(args)} (sparsity_p {settings.sparsity_p} by "
        f"default, {selection(settings.sparsity)}). Stop it with Ctrl+C. Ask it something:\n\n"
        f"{curl(args, with_image=model_config.is_multimodal_model, with_key=settings.access.asks_for_keys)}\n"
        f"{warning(args, settings)}"
    )


def warning(args: argparse.Namespace, settings: ServerSettings) -> str:
    """A line for those who open the server to others without a key."""
    if settings.access.asks_for_keys or args.uds or args.host in LOOPBACK:
        return ""
    return (
        f"\nWarning: --host is {args.host or 'every address'} and there is no API key, so whoever reaches this address "
        "may ask. Set WINNOW_API_KEYS or --api-keys-file, unless something in front of the server asks for keys.\n"
    )


def selection(sparsity: SparsityConfig) -> str:
    """How tokens are selected; a baseline is called one."""
    baseline = "" if sparsity.ranking == "attention" else f", baseline for benchmarks: ranking {sparsity.ranking}"
    return f"selection {sparsity.selection}{baseline}"


def base_url(args: argparse.Namespace) -> str:
    """Where a client on this machine reaches the server."""
    host = args.host if args.host not in ("", "0.0.0.0", "::", None) else "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if args.ssl_certfile else 'http'}://{host}:{args.port}"


def curl(args: argparse.Namespace, *, with_image: bool, with_key: bool = False) -> str:
    """A command that works as it stands: the picture lies in a request file beside the code."""
    body = f"@{demo.REQUEST}" if with_image else json.dumps(TEXT_REQUEST)
    words = ["curl", "-s"]
    if args.uds:
        words += ["--unix-socket", args.uds]
    words += [f"{base_url(args)}/v1/chat/completions", "-H", "Content-Type: application/json"]
    if with_key:
        words += ["-H", "Authorization: Bearer YOUR_API_KEY"]
    return shlex.join([*words, "-d", body])
