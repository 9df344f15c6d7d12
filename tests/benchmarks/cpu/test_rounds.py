"""Turns and ratios by hand."""

import pytest

from benchmarks.cpu.rounds import Turn, figures_of, in_slices, in_turns, num_runs, spreads


def test_every_turn_stands_between_two_of_the_baseline():
    log = []

    def measure(name):
        def measured():
            log.append(name)
            return {"n": len(log), "name": name}

        return measured

    ticks = []
    stock, turns = in_turns(measure("s"), {"a": measure("a"), "b": measure("b")}, 2, lambda: ticks.append(1))
    assert "".join(log) == "sasbsbsas"
    assert len(ticks) == len(log) == num_runs(2, 2)
    assert [row["n"] for row in stock] == [1, 3, 5, 7, 9]
    assert [[row["n"] for row in (turn.row, *turn.neighbours)] for turn in turns["a"]] == [[2, 1, 3], [8, 7, 9]]
    assert all(turn.row["name"] == "b" for turn in turns["b"])


def test_a_steady_drift_cancels():
    """The machine loses 10 tokens per second with every run; both engines are equally fast."""
    speed = iter(range(100, 0, -10))
    _, turns = in_turns(lambda: {"x": next(speed)}, {"a": lambda: {"x": next(speed)}}, 3)
    assert [turn.ratio("x") for turn in turns["a"]] == pytest.approx([1.0, 1.0, 1.0])


def test_slices_of_both_take_turns_until_both_are_done():
    log = []

    def measure(name, num_slices):
        taken = 0

        def measured():
            nonlocal taken
            taken += 1
            log.append(name)
            return {"is_done": False} if taken % num_slices else {"n": taken, "name": name}

        return measured

    ticks = []
    variants = {"a": measure("a", 3), "b": measure("b", 1)}
    stock, turns = in_slices(measure("s", 2), variants, 2, lambda: ticks.append(1))
    assert "".join(log) == "asasabsssasaasbs"
    assert len(ticks) == 8
    assert [row["n"] for row in stock] == [2, 4, 6, 8]
    assert [(turn.row["n"], [row["n"] for row in turn.neighbours]) for turn in turns["a"]] == [(3, [2]), (6, [6])]
    assert [turn.row["name"] for turn in turns["b"]] == ["b", "b"]


def test_ratio_by_hand():
    turn = Turn({"x": 6.0, "y": None}, ({"x": 2.0, "y": 1.0}, {"x": 4.0, "y": 1.0}))
    assert turn.ratio("x") == 2.0
    assert turn.ratio("y") is None


def test_spreads_and_what_is_missing():
    assert spreads({"x": [5.0, 1.0, 2.0, 3.0, 4.0, 0.0], "y": [1.0, None]}) == {
        "x": pytest.approx(2.5),
        "x_p20": pytest.approx(1.0),
        "x_p80": pytest.approx(4.0),
        "y": None,
        "y_p20": None,
        "y_p80": None,
    }
    assert figures_of([{"x": 1, "y": 2}, {"x": 3, "y": 4}], ["x", "y"], ["x"]) == pytest.approx(
        {"x": 2, "x_p20": 1.4, "x_p80": 2.6, "y": 3}
    )
