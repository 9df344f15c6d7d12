"""The figures that all cases share: what is drawn is what was given."""

import sys

import pytest
from matplotlib.colors import to_rgb

from benchmarks.errors import BenchmarkError
from benchmarks.plots import COLORS, heat_map, line_figure, png, save


def test_lines_hold_the_points_and_bands_the_spread():
    series = {"stock": ([1, 10], [5.0, 6.0], [4.0, 5.0], [6.0, 9.0]), "ours": ([1, 10], [2.0, 3.0])}
    (axes,) = line_figure(series, "context, tokens", "time, ms", "title", log_x=True).axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        "stock": [5.0, 6.0],
        "ours": [2.0, 3.0],
    }
    (band,) = axes.collections
    assert (band.get_datalim(axes.transData).y0, band.get_datalim(axes.transData).y1) == (4.0, 9.0)
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == (
        "context, tokens",
        "time, ms",
        "title",
    )
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "10"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["stock", "ours"]


def test_linear_values_are_shown_from_zero():
    assert line_figure({"a": ([1, 2], [100.0, 101.0])}, "x", "y", "t").axes[0].get_ylim()[0] == 0.0
    assert line_figure({"a": ([1, 2], [100.0, 101.0])}, "x", "y", "t", log_y=True).axes[0].get_ylim()[0] > 0.0


def test_more_series_than_colours_still_draw():
    series = {f"series {index}": ([1], [index]) for index in range(len(COLORS) + 2)}
    lines = line_figure(series, "x", "y", "t").axes[0].lines
    assert to_rgb(lines[0].get_color()) == to_rgb(lines[len(COLORS)].get_color())


def test_heat_map_shows_every_number_but_nan():
    axes, bar = heat_map([[0.1, 0.25], [1.0, float("nan")]], ["a", "b"], ["top", "bottom"], "t", "share").axes
    assert [text.get_text() for text in axes.texts] == ["0.10", "0.25", "1.00"]
    # Dark cells carry white numbers.
    assert [text.get_color() for text in axes.texts] == ["black", "black", "white"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["top", "bottom"]
    assert bar.get_ylabel() == "share"


def test_the_smallest_heat_map_has_room_for_its_labels(tmp_path):
    """A layout that collapses is a warning of matplotlib, and a warning is an error in tests."""
    save(heat_map([[1.0]], ["1"], ["48 layers"], "one step, by running requests", "times vLLM's"), tmp_path / "a.png")


def test_pictures_are_the_same_every_time(tmp_path):
    def draw() -> bytes:
        return png(line_figure({"a": ([1, 2], [3, 4])}, "x", "y", "t"))

    assert draw() == draw()
    path = save(line_figure({"a": ([1, 2], [3, 4])}, "x", "y", "t"), tmp_path / "new" / "a.png")
    assert path.read_bytes() == draw()
    assert draw().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BenchmarkError, match=r"matplotlib is not installed.*extra `benchmarks`"):
        line_figure({}, "x", "y", "t")
