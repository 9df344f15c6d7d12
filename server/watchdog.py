"""Ends the process when its engine has died, so that its supervisor starts a new one.

vLLM answers the open requests with errors and stops its HTTP server when it notices. But it looks every 5 seconds only,
waits without limit for clients that do not read their answers and for calls into the dead engine, and then exits
with status 0. It also ends the process that would end a worker which hangs, so that the worker stays for ever.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from vllm.logger import init_logger

from server.engine import SparseAsyncLLM
from server.errors import EXIT_ENGINE_DIED

logger = init_logger(f"vllm.{__name__}")

POLL_INTERVAL_S = 0.2

# For the answers to leave and vLLM's processes to end; then the process ends, whatever hangs.
LAST_RESORT_S = 15

# vLLM's titles of the processes that an engine consists of.
TITLE = "VLLM::"


@contextmanager
def watched(engine: SparseAsyncLLM) -> Iterator[None]:
    """Watch the engine within the block; after a death, until the process has ended.

    In a thread, because the event loop may hang.
    """
    is_over = threading.Event()
    threading.Thread(target=_watch, args=(engine, is_over), daemon=True, name="watchdog").start()
    try:
        yield
    finally:
        is_over.set()


def _watch(engine: SparseAsyncLLM, is_over: threading.Event) -> None:
    processes = _processes_of_the_engine()
    while not engine.errored:
        if is_over.wait(POLL_INTERVAL_S):
            return
    if engine.is_stopping:
        return
    logger.error("The engine died. Open requests get errors, then this process exits with %d.", EXIT_ENGINE_DIED)
    if engine.on_death is not None:
        engine.on_death()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    time.sleep(LAST_RESORT_S)
    logger.error("Something still waits for the dead engine; exiting without it.")
    sys.stdout.flush()
    os._exit(EXIT_ENGINE_DIED)


def _processes_of_the_engine() -> list[psutil.Process]:
    """Noted while they have parents: those of a process that has ended are nobody's children."""
    return [process for process in psutil.Process().children(recursive=True) if _title(process).startswith(TITLE)]


def _title(process: psutil.Process) -> str:
    try:
        return process.cmdline()[0]
    # It has ended, or is about to.
    except (psutil.Error, IndexError):
        return ""
