"""Requests per minute and at a time, on a clock that the test moves."""

import pytest

from server.access.rates import Allowance


@pytest.fixture
def clock():
    class Clock:
        now_s = 1000.0

        def __call__(self) -> float:
            return self.now_s

    return Clock()


def begin_and_end(allowance: Allowance) -> None:
    assert allowance.excess() is None
    with allowance.held():
        pass


def test_any_minute_holds_so_many_requests_and_the_next_says_when(clock):
    allowance = Allowance(3, 0, clock)
    for _ in range(3):
        begin_and_end(allowance)
        clock.now_s += 10
    excess = allowance.excess()
    assert excess.retry_after_s == 30
    assert excess.message.startswith("3 requests of this key began in the last minute, but it may begin 3.")
    clock.now_s += 29.5
    assert allowance.excess().retry_after_s == 1
    clock.now_s += 0.5
    begin_and_end(allowance)
    assert allowance.excess().retry_after_s == 10


def test_refused_requests_do_not_count(clock):
    allowance = Allowance(1, 0, clock)
    begin_and_end(allowance)
    for _ in range(100):
        assert allowance.excess() is not None
    clock.now_s += 60
    begin_and_end(allowance)


def test_so_many_run_at_a_time_whatever_their_end(clock):
    allowance = Allowance(0, 2, clock)
    allowance.begin()

    def fail() -> None:
        with allowance.held():
            assert "2 requests of this key are running, but it may have 2" in allowance.excess().message
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert allowance.excess() is None


def test_work_behind_the_answer_holds_its_slot(clock):
    allowance = Allowance(0, 1, clock)
    with allowance.held():
        give_back = allowance.hold()
    assert allowance.excess() is not None
    give_back(None)
    assert allowance.excess() is None


def test_zero_is_any_number(clock):
    allowance = Allowance(0, 0, clock)
    for _ in range(10_000):
        allowance.begin()
    assert allowance.excess() is None
    assert len(allowance._starts_s) == 0
