"""What the server says about itself: to the person at the terminal, or as records where logs are JSON."""

import argparse

from vllm.logger import init_logger

logger = init_logger(f"vllm.{__name__}")


def say(text: str, args: argparse.Namespace) -> None:
    """Print it, or log it with `--logging-config.formatter json`, so that each line of the output is JSON.

    Args:
        text: may have several lines.
        args: vLLM's arguments.
    """
    if args.logging_config.formatter == "json":
        logger.info("%s", text.strip())
    else:
        print(text, flush=True)
