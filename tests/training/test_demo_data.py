"""The generator: the same everywhere, right answers, files that hold exactly the pixels that were drawn."""

import hashlib
import json

import cv2
import numpy as np
import pytest

from training.demo.geometry import FRAMES_PER_SECOND
from training.demo.questions import TYPES_BY_KIND, all_questions, choose_questions
from training.demo.scenes import SceneSize, draw_scene
from training.demo.streams import (
    HELD_OUT_STREAM,
    SIZES,
    TRAINING_STREAM,
    held_out_example,
    make_example,
    scene_generator,
)
from training.demo.words import QUESTIONS
from training.demo_data import write_dataset

from .pixel_reader import answer_from_seen, read_frames

SMALL_SIZES = [size for size in SIZES if size.num_visual_tokens <= 256]
KNOWN_DIGEST = "e010a49ff76b009cf3c8a540a4e160dd3130b877ef992fe446d2012fa92b84c5"


def test_a_seed_gives_the_same_pixels_and_questions_on_every_machine():
    digest = hashlib.sha256()
    for index in range(len(SIZES)):
        example = held_out_example(1, index)
        digest.update(example.frames.tobytes())
        digest.update(repr([(q.type, q.text, q.answer) for q in example.questions]).encode())
    assert digest.hexdigest() == KNOWN_DIGEST


def test_every_question_type_is_asked_and_every_size_has_a_place():
    asked = {question_type for types in TYPES_BY_KIND.values() for question_type in types}
    assert asked == set(QUESTIONS)
    tokens = sorted({size.num_visual_tokens for size in SIZES})
    assert tokens[0] == 64
    assert tokens[-1] >= 1024


@pytest.mark.parametrize("size", SMALL_SIZES, ids=repr)
def test_answers_are_what_the_pixels_show(size: SceneSize):
    for index in range(3):
        rng = scene_generator(3, HELD_OUT_STREAM, index)
        scene = draw_scene(rng, size)
        seen = read_frames(make_example(3, HELD_OUT_STREAM, index, size, 1).frames)
        for questions in all_questions(scene).values():
            for question in questions:
                assert answer_from_seen(seen, question.text) == question.answer, (index, question)


def test_types_are_asked_equally_often():
    rng = scene_generator(4, HELD_OUT_STREAM, 0)
    questions = choose_questions(rng, draw_scene(rng, SceneSize("image", 8)), 2 * len(TYPES_BY_KIND["image"]))
    counts = {kind: sum(q.type == kind for q in questions) for kind in TYPES_BY_KIND["image"]}
    assert set(counts.values()) == {2}


def test_training_and_held_out_scenes_differ():
    size = SceneSize("image", 8)
    held_out = {make_example(0, HELD_OUT_STREAM, index, size, 1).frames.tobytes() for index in range(50)}
    training = {make_example(0, TRAINING_STREAM, index, size, 1).frames.tobytes() for index in range(50)}
    assert len(held_out) == len(training) == 50
    assert not held_out & training


def test_files_hold_exactly_the_drawn_pixels(tmp_path):
    rows = [json.loads(line) for line in write_dataset(1, len(SIZES), tmp_path).read_text().splitlines()]
    assert len(rows) == len(SIZES)
    for index, row in enumerate(rows):
        example = held_out_example(1, index)
        question = example.questions[0]
        assert (row["question"], row["answer"], row["type"]) == (question.text, question.answer, question.type)
        np.testing.assert_array_equal(_read(tmp_path, row["media"]), example.frames)


def test_a_longer_dataset_starts_with_the_shorter_one(tmp_path):
    short = write_dataset(2, 3, tmp_path / "short").read_text()
    assert write_dataset(2, 5, tmp_path / "long").read_text().startswith(short)


def _read(folder, media) -> np.ndarray:
    if media[0]["type"] == "image":
        return np.stack([cv2.imread(str(folder / item["path"]))[..., ::-1] for item in media])
    capture = cv2.VideoCapture(str(folder / media[0]["path"]))
    assert capture.get(cv2.CAP_PROP_FPS) == FRAMES_PER_SECOND
    frames = []
    while (result := capture.read())[0]:
        frames.append(result[1][..., ::-1])
    return np.stack(frames)
