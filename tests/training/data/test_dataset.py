"""Questions: lazily loaded, broken ones refused or skipped."""

import logging

import numpy as np
import pytest

from training.data import BrokenRecord, MediaLimits, dataset, load_questions

GOOD = {"prompt": "Which color?", "images": ["media/red.png"], "solution": "red", "problem_type": "exact"}
VIDEO = {"prompt": "What moves?", "videos": ["media/clip.mp4"], "solution": "dot", "problem_type": "exact"}
UNREADABLE = GOOD | {"images": ["media/broken.png"]}


def test_nothing_is_opened_before_it_is_asked_for(media, jsonl, monkeypatch):
    opened = []
    monkeypatch.setattr(dataset, "load_image", lambda path, limits: opened.append(path) or "image")
    questions = load_questions([jsonl(GOOD, GOOD)])
    assert (len(questions), opened) == (2, [])
    assert questions[1]["images"] == ["image"]
    assert opened == [str(media / "red.png")]


def test_rows_hold_their_media(media, jsonl):
    limits = MediaLimits(max_frames=4)
    image, video = load_questions([jsonl(GOOD, VIDEO)], limits=limits, answer_format="plain")
    assert image["images"][0].getpixel((0, 0)) == (200, 0, 0)
    assert (image["videos"], image["video_fps"], image["solution"]) == (None, None, "red")
    assert video["videos"][0].shape == (4, 64, 64, 3)
    assert (video["images"], video["video_fps"]) == (None, pytest.approx([0.4]))


def test_skipping_is_asked_for_and_counted(media, jsonl, caplog):
    path = jsonl(GOOD, "{", GOOD | {"problem_type": "essay"}, VIDEO)
    with pytest.raises(BrokenRecord, match=r"data\.jsonl:2: "):
        load_questions([path])
    with caplog.at_level(logging.WARNING):
        questions = load_questions([path], skip_broken=True)
    assert [row["source"] for row in questions.rows] == [f"{path}:1", f"{path}:4"]
    assert f"{path}: skipped 2 broken records; the first: {path}:2: " in caplog.text


def test_unreadable_media_are_refused_or_replaced_by_the_next(media, jsonl, caplog):
    path = jsonl(GOOD, UNREADABLE, VIDEO, UNREADABLE)
    with pytest.raises(BrokenRecord, match=r"data\.jsonl:2: .*broken\.png is no image"):
        load_questions([path])[1]
    with caplog.at_level(logging.WARNING):
        questions = load_questions([path], skip_broken=True)
        assert questions[1]["source"] == f"{path}:3"
        assert questions[3]["source"] == f"{path}:1"
    assert "The next record is taken in its place." in caplog.text


def test_a_file_without_a_usable_record_is_refused(media, jsonl):
    with pytest.raises(ValueError, match="hold no usable record"):
        load_questions([jsonl("{")], skip_broken=True)
    with pytest.raises(BrokenRecord, match="no record has media that can be decoded"):
        load_questions([jsonl(UNREADABLE, UNREADABLE)], skip_broken=True)[0]


def test_media_root(media, jsonl, tmp_path):
    path = jsonl(GOOD | {"images": ["red.png"]})
    with pytest.raises(BrokenRecord, match="set media_root"):
        load_questions([path])
    assert load_questions([path], media_root=media).rows[0]["images"] == [str(media / "red.png")]


def test_the_table_for_trl_gives_whole_rows(media, jsonl):
    questions = load_questions([jsonl(GOOD, VIDEO)], limits=MediaLimits(max_frames=4))
    table = questions.as_dataset()
    assert len(table) == 2
    # No keys from other rows' parts, and arrays stay arrays.
    assert table[0]["prompt"] == questions.rows[0]["prompt"]
    assert table[0]["prompt"][0]["content"][0] == {"type": "image"}
    assert isinstance(table[1]["videos"][0], np.ndarray)
    assert table[0]["images"][0].size == (80, 60)


def test_a_group_loads_its_row_once(media, jsonl, monkeypatch):
    opened = []
    monkeypatch.setattr(dataset, "load_image", lambda path, limits: opened.append(path) or "image")
    table = load_questions([jsonl(GOOD, GOOD)]).as_dataset()
    rows = table.__getitems__([1, 1, 1, 0])
    assert [row["source"][-1] for row in rows] == ["2", "2", "2", "1"]
    assert len(opened) == 2
