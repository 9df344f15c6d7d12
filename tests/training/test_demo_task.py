"""Rows of the demo generator: reproducible, of one size where asked for, and never held-out scenes."""

import numpy as np

from training.demo.streams import SIZES, held_out_example
from training.demo_task import held_out_rows, training_rows, training_size


def visual_tokens(row: dict) -> int:
    frames = [np.asarray(image) for image in row["images"]] if row["images"] else row["videos"][0][::2]
    return sum(frame.shape[0] * frame.shape[1] // 28**2 for frame in frames)


def test_a_training_row_depends_on_seed_and_index_alone():
    one, two = training_rows(3, 50), training_rows(3, 80)
    two[10]
    for index in (7, 3):
        assert one[index]["solution"] == two[index]["solution"]
        assert one[index]["prompt"] == two[index]["prompt"]
        assert visual_tokens(one[index]) == visual_tokens(two[index])
    texts = [
        [row["prompt"][0]["content"][-1]["text"] for row in (rows[i] for i in range(20))]
        for rows in (one, training_rows(4, 20))
    ]
    assert texts[0] != texts[1]


def test_sizes_come_in_blocks_and_equally_often():
    rows = training_rows(0, 12, prompts_per_size=4)
    tokens = [visual_tokens(rows[index]) for index in range(12)]
    expected = [training_size(0, block).num_visual_tokens for block in range(3)]
    assert tokens == [size for size in expected for _ in range(4)]

    drawn = [training_size(1, block) for block in range(4000)]
    assert all(3 / 4 < drawn.count(size) * len(SIZES) / len(drawn) < 4 / 3 for size in SIZES)


def test_held_out_rows_are_those_of_the_demo_data_command():
    rows = held_out_rows(5, 20)
    for index in (0, 19):
        example = held_out_example(5, index)
        assert rows[index]["solution"] == example.questions[0].answer
        assert visual_tokens(rows[index]) == example.scene.size.num_visual_tokens


def test_a_row_asked_for_again_is_the_same_object():
    """So that a group of rollouts pays for its picture once."""
    rows = training_rows(0, 4)
    assert rows[2]["images"] is rows[2]["images"] is not None or rows[2]["videos"] is rows[2]["videos"] is not None
