"""From the command line to a served model; what cannot be served is said in one sentence."""

import sys

import uvloop
from pydantic import ValidationError
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.logger import configure_logging_from_args

from attention_backend import WinnowError
from server.command_line import parse
from server.errors import EXIT_ENGINE_DIED, EXIT_INTERRUPTED, EngineDied

EXIT_UNSUPPORTED = 2


def main(argv: list[str]) -> int:
    """Serve until a signal arrives.

    Args:
        argv: the arguments without the program's name.

    Returns:
        The exit status: 2 when options are wrong or exclude pruning, 3 when the engine died.
    """
    cli_env_setup()
    try:
        args, settings = parse(argv)
        configure_logging_from_args(args)
        # Imported late: it brings in the engine, and a refused option should be said at once.
        from server.app import serve

        uvloop.run(serve(args, settings))
    except WinnowError as error:
        return _refuse(str(error))
    except ValidationError as error:
        return _refuse(" ".join(fault["msg"] for fault in error.errors()))
    except EngineDied:
        return EXIT_ENGINE_DIED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def _refuse(sentence: str) -> int:
    print(f"Winnow cannot start: {sentence}", file=sys.stderr, flush=True)
    return EXIT_UNSUPPORTED
