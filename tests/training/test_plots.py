"""Pictures from JSON: what is drawn is what the files say."""

import json

import matplotlib.figure
import pytest

from measurement.results import Result, write
from training import plots


@pytest.fixture
def drawn(monkeypatch) -> list[matplotlib.figure.Figure]:
    """The figures that are saved, still with what they show."""
    figures = []
    saved = matplotlib.figure.Figure.savefig

    def save(figure, *args, **kwargs):
        figures.append(figure)
        saved(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", save)
    return figures


def result_of(*rows: tuple[str, float, float, float]) -> Result:
    keys = ("model", "sparsity_p", "token_ratio", "accuracy")
    summary = [dict(zip(keys, row, strict=True)) | {"num_questions": 340} for row in rows]
    return Result("evaluation", {}, {}, {}, summary, [])


BASE = result_of(("base", 1.0, 1.0, 0.97), ("base", 0.975, 0.72, 0.96), ("base", 0.8, 0.2, 0.7))
TRAINED = result_of(("trained", 0.975, 0.26, 0.95), ("trained", 1.0, 1.0, 0.96))


def test_accuracy_against_token_ratio(drawn, tmp_path):
    files = [write(result, tmp_path / name) for name, result in (("a", BASE), ("b", TRAINED))]
    plots.main(["accuracy", *map(str, files), "--out", str(tmp_path / "new" / "accuracy.png")])
    assert (tmp_path / "new" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = drawn[0].axes
    lines = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    # Along the ratio, whatever the order in the file.
    assert lines == {"base": [(0.2, 0.7), (0.72, 0.96), (1.0, 0.97)], "trained": [(0.26, 0.95), (1.0, 0.96)]}
    assert sorted(text.get_text() for text in axes.texts) == ["0.8", "0.975", "0.975", "1", "1"]


def test_curves(drawn, tmp_path):
    log = [
        {"step": 1, "reward": 0.5, "rewards/accuracy/mean": 0.4, "token_ratio": 0.8},
        {"step": 1, "eval_rewards/accuracy/mean": 0.9},
        {"step": 2, "reward": 0.7, "rewards/accuracy/mean": 0.6, "token_ratio": 0.6, "kl": 0.01},
        {"step": 2, "train_loss": 0.0},
    ]
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    files = [str(tmp_path / name / "trainer_state.json") for name in ("ours", "theirs")]
    plots.main(["curves", *files, "--out", str(tmp_path / "curves.svg")])
    panels = {axes.get_ylabel(): axes for axes in drawn[0].axes}
    assert list(panels) == ["reward", "accuracy", "token ratio", "KL to the dense reference"]
    train, mean, held_out, *_ = (list(zip(*line.get_data(), strict=True)) for line in panels["accuracy"].lines)
    assert (train, mean, held_out) == ([(1, 0.4), (2, 0.6)], [(1, 0.4), (2, 0.5)], [(1, 0.9)])
    assert [line.get_label() for line in panels["reward"].lines][1::3] == ["ours", "theirs"]


def test_running_mean_by_hand():
    points = [(step, float(step)) for step in range(1, 13)]
    # The last ten: 3 to 12.
    assert plots._running_mean(points)[-1] == (12, 7.5)
    assert plots._running_mean(points)[2] == (3, 2.0)


def test_logs_of_something_else_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the logs of a hold none of reward, accuracy"):
        plots.curves_plot({"a": [{"step": 1, "loss": 2.0}]}, tmp_path / "a.png")
