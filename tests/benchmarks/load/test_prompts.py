"""Long questions."""

import base64

import pytest
from PIL import Image

from benchmarks.errors import BenchmarkError
from benchmarks.load.prompts import long_questions


def test_pictures_of_long_questions_are_large(tmp_path):
    questions = long_questions(seed=3, num_questions=6, min_visual_tokens=576)
    assert {question.kind for question in questions} == {"image", "video"}
    for question in questions:
        if question.kind == "image":
            cells = 0
            for part in question.content[:-1]:
                path = tmp_path / "picture.png"
                path.write_bytes(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
                width, height = Image.open(path).size
                cells += width // 28 * (height // 28)
            assert cells >= 576


def test_a_seed_gives_the_same_questions():
    first, second, other = (long_questions(seed, 2, 512) for seed in (1, 1, 2))
    assert first == second != other


def test_longer_than_the_longest_is_an_error():
    with pytest.raises(BenchmarkError, match="--min-visual-tokens is 5000, but the largest questions have 1024"):
        long_questions(1, 1, 5000)
