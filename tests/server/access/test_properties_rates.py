"""Any order of requests, ends and waiting: a caller never has more than its allowance, and hears when to come again.

`pytest --hypothesis-profile=wide tests/server/access/test_properties_rates.py` draws 2,000 of them.
"""

from hypothesis import given
from hypothesis import strategies as st

from server.access.rates import WINDOW_S, Allowance

# Times that add up without rounding.
waits = st.integers(0, 90 * 64).map(lambda parts: parts / 64)
steps = st.lists(st.one_of(st.just("ask"), st.just("end"), waits), max_size=60)


@given(rate=st.integers(0, 4), at_once=st.integers(0, 3), steps=steps)
def test_an_allowance_is_never_exceeded_and_never_too_strict(rate, at_once, steps):
    now_s, running, starts_s = [0.0], 0, []
    allowance = Allowance(rate, at_once, clock=lambda: now_s[0])
    for step in steps:
        if isinstance(step, float):
            now_s[0] += step
        elif step == "end":
            if running:
                allowance.end()
                running -= 1
        else:
            recent = [start_s for start_s in starts_s if now_s[0] - start_s < WINDOW_S]
            is_full = bool(at_once) and running >= at_once
            is_fast = bool(rate) and len(recent) >= rate
            excess = allowance.excess()
            assert (excess is not None) == (is_full or is_fast)
            if excess is None:
                allowance.begin()
                running += 1
                starts_s.append(now_s[0])
            elif not is_full:
                # Whoever waits as long as it was told is let in.
                assert now_s[0] + excess.retry_after_s - recent[-rate] >= WINDOW_S
                assert excess.retry_after_s <= WINDOW_S
