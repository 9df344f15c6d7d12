"""When the watchdog ends the process; tests/server/test_http_faults.py sees it happen to a real one."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from server import watchdog
from server.errors import EXIT_ENGINE_DIED

SOON_S = 60
TITLE = "Test::"


@pytest.fixture
def exits(monkeypatch) -> list[int]:
    """Statuses that the process would have exited with."""
    exits = []
    monkeypatch.setattr(watchdog.os, "_exit", exits.append)
    monkeypatch.setattr(watchdog, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(watchdog, "LAST_RESORT_S", 0.01)
    # Servers of other tests are children of this process, too.
    monkeypatch.setattr(watchdog, "TITLE", TITLE)
    return exits


@pytest.fixture
def engine() -> SimpleNamespace:
    return SimpleNamespace(errored=False, is_stopping=False, on_death=None)


def watchdog_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "watchdog"]


def test_a_dead_engine_ends_http_and_then_the_process(engine, exits):
    order = []
    engine.on_death = lambda: order.append((engine.errored, list(exits)))
    with watchdog.watched(engine):
        (thread,) = watchdog_threads()
        assert exits == []
        engine.errored = True
        # The main thread waits for the dead engine here.
        thread.join(SOON_S)
    assert order == [(True, [])]
    assert exits == [EXIT_ENGINE_DIED]


def test_a_death_during_start_up_needs_no_http(engine, exits):
    with watchdog.watched(engine):
        (thread,) = watchdog_threads()
        engine.errored = True
        thread.join(SOON_S)
    assert exits == [EXIT_ENGINE_DIED]


def test_what_hangs_behind_the_block_is_not_waited_for(engine, exits):
    died = threading.Event()
    engine.on_death = died.set
    with watchdog.watched(engine):
        (thread,) = watchdog_threads()
        engine.errored = True
        assert died.wait(SOON_S)
    thread.join(SOON_S)
    assert exits == [EXIT_ENGINE_DIED]


@pytest.mark.parametrize("is_stopping", [True, False], ids=["stop-signal", "end-of-the-block"])
def test_an_orderly_end_is_no_death(engine, exits, is_stopping):
    with watchdog.watched(engine):
        (thread,) = watchdog_threads()
        # vLLM's client calls itself dead when it was shut down.
        engine.is_stopping = is_stopping
        engine.errored = is_stopping
    thread.join(SOON_S)
    engine.errored = True
    assert not thread.is_alive()
    assert exits == []


@pytest.fixture
def processes() -> Iterator[tuple[subprocess.Popen, subprocess.Popen]]:
    """One with such a title that hangs, and another one of this process."""
    with (
        subprocess.Popen([f"{TITLE}Worker", "60"], executable="sleep") as hanging,
        subprocess.Popen(["sleep", "60"]) as other,
    ):
        hanging.send_signal(signal.SIGSTOP)
        yield hanging, other
        hanging.kill()
        other.kill()


def test_processes_of_the_dead_engine_end_too_even_hanging_ones(engine, exits, processes):
    hanging, other = processes
    with watchdog.watched(engine):
        (thread,) = watchdog_threads()
        engine.errored = True
        thread.join(SOON_S)
    assert hanging.wait(SOON_S) == -signal.SIGKILL
    assert other.poll() is None


def test_processes_of_an_engine_that_stops_in_order_are_left_to_vllm(engine, exits, processes):
    hanging, _ = processes
    with watchdog.watched(engine):
        (thread,) = watchdog_threads()
    thread.join(SOON_S)
    assert hanging.poll() is None
