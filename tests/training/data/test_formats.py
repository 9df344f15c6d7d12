"""Records of each format, and what becomes of them."""

import pytest

from training.data import BrokenRecord, load_questions

VIDEO_R1 = {
    "problem_id": 1,
    "problem": "What moves?",
    "problem_type": "multiple choice",
    "options": ["A. a ball", "B. a car"],
    "solution": "<answer>B</answer>",
    "path": "./media/clip.mp4",
    "data_type": "video",
    "data_source": "made up",
}
VLM_R1 = {
    "id": 1,
    "image": ["media/red.png", "media/blue.png"],
    "conversations": [{"from": "human", "value": "<image><image>How many?"}, {"from": "gpt", "value": "2"}],
}
PLAIN = {"prompt": "Which color?", "images": ["media/red.png"], "solution": "red", "problem_type": "exact"}


def text_of(row) -> str:
    return row["prompt"][0]["content"][-1]["text"]


def kinds_of(row) -> list[str]:
    return [part["type"] for part in row["prompt"][0]["content"]]


def test_video_r1(media, jsonl):
    path = jsonl(
        VIDEO_R1, VIDEO_R1 | {"problem_type": "OCR", "options": [], "data_type": "image", "path": "media/red.png"}
    )
    video, image = load_questions([path]).rows
    assert text_of(video).startswith("What moves?\nOptions:\nA. a ball\nB. a car\n")
    assert "<think>" in text_of(video)
    assert "only the letter" in text_of(video)
    assert (kinds_of(video), kinds_of(image)) == (["video", "text"], ["image", "text"])
    assert (video["videos"], video["images"]) == ([str(media / "clip.mp4")], None)
    assert (image["videos"], image["images"]) == (None, [str(media / "red.png")])
    assert (video["solution"], video["problem_type"]) == ("<answer>B</answer>", "multiple choice")
    assert image["source"] == f"{path}:2"
    assert "the text that you read" in text_of(image)
    assert "Options" not in text_of(image)


@pytest.mark.parametrize(
    ("value", "more", "problem_type"),
    [
        ("2", {}, "numerical"),
        (0.5, {}, "numerical"),
        ("<answer> 1,200 </answer>", {}, "numerical"),
        ("B", {}, "multiple choice"),
        ("a red car", {}, "free-form"),
        ("2 cars", {}, "free-form"),
        ("B", {"accu_reward_method": "mcq"}, "multiple choice"),
        ("yes", {"accu_reward_method": "yes_no"}, "multiple choice"),
        ("2", {"problem_type": "regression"}, "regression"),
    ],
)
def test_vlm_r1(media, jsonl, value, more, problem_type):
    turns = [VLM_R1["conversations"][0], {"from": "gpt", "value": value}]
    row = load_questions([jsonl(VLM_R1 | {"conversations": turns} | more)]).rows[0]
    assert row["problem_type"] == problem_type
    assert row["solution"] == f"<answer>{str(value).replace('<answer>', '').replace('</answer>', '').strip()}</answer>"
    assert row["images"] == [str(media / "red.png"), str(media / "blue.png")]
    assert kinds_of(row) == ["image", "image", "text"]
    assert text_of(row).startswith("How many?\n")


def test_plain_text_prompts(media, jsonl):
    rows = load_questions(
        [jsonl(PLAIN, PLAIN | {"images": [], "videos": "media/clip.mp4"})], answer_format="plain"
    ).rows
    assert (text_of(rows[0]), rows[0]["solution"]) == ("Which color?", "red")
    assert (kinds_of(rows[1]), rows[1]["images"]) == (["video", "text"], None)


def test_plain_chat_messages_stay_as_they_are(media, jsonl):
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "This:"}, {"type": "image"}, {"type": "text", "text": "?"}],
        },
    ]
    row = load_questions([jsonl(PLAIN | {"prompt": messages})]).rows[0]
    assert (row["prompt"], row["solution"]) == (messages, "red")


@pytest.mark.parametrize(
    ("answer_format", "asks", "solution"),
    [("think", "<think>", "<answer>red</answer>"), ("tags", "<answer>", "<answer>red</answer>"), ("plain", "?", "red")],
)
def test_solutions_have_tags_where_the_prompt_asks_for_them(media, jsonl, answer_format, asks, solution):
    row = load_questions([jsonl(PLAIN)], answer_format=answer_format).rows[0]
    assert asks in text_of(row)
    assert ("<think>" in text_of(row)) == (answer_format == "think")
    assert row["solution"] == solution


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (VIDEO_R1 | {"problem_type": "essay"}, "problem_type is 'essay', but must be one of multiple choice"),
        (VIDEO_R1 | {"problem": ""}, "problem is '', but must be a text"),
        (VIDEO_R1 | {"options": None}, "options is None, but must be a list of texts"),
        (VIDEO_R1 | {"solution": "B"}, "solution is 'B', but must be in <answer> tags"),
        (VIDEO_R1 | {"data_type": "audio"}, "data_type is 'audio', but must be image or video"),
        (VIDEO_R1 | {"path": "media/gone.mp4"}, "path names .*gone.mp4, but there is no such file"),
        (
            {"problem": "?", "problem_type": "OCR", "solution": "<answer>x</answer>", "data_type": "image"},
            "path is missing",
        ),
        (VLM_R1 | {"conversations": []}, r"conversations is \[\], but must be one question and one answer"),
        (VLM_R1 | {"conversations": [{"value": "?"}, {"value": None}]}, "each with a value"),
        (VLM_R1 | {"accu_reward_method": "map"}, "accu_reward_method is 'map', but must be one of default, mcq"),
        (VLM_R1 | {"image": 7}, "image is 7, but must be a path or a list of paths"),
        (VLM_R1 | {"image": [7]}, r"image is \[7\], but must be a path or a list of paths"),
        (PLAIN | {"solution": None}, "solution is None, but must be a text or a number"),
        (PLAIN | {"prompt": [{"role": "user"}]}, "a message without role or content"),
        (PLAIN | {"prompt": [{"role": "user", "content": "no place"}]}, "holds 0 .* parts, but images has 1 files"),
        ({"question": "?"}, "has the fields question, but a known format has conversations"),
    ],
)
def test_broken_records_are_refused_with_file_and_line(media, jsonl, record, says):
    path = jsonl(PLAIN, record)
    with pytest.raises(BrokenRecord, match=says) as error:
        load_questions([path])
    assert str(error.value).startswith(f"{path}:2: ")


def test_a_named_format_is_not_guessed(media, jsonl):
    with pytest.raises(BrokenRecord, match="conversations is missing"):
        load_questions([jsonl(PLAIN)], data_format="vlm_r1")
    with pytest.raises(
        ValueError, match="data_format is 'parquet', but must be auto or one of video_r1, vlm_r1, plain"
    ):
        load_questions([jsonl(PLAIN)], data_format="parquet")
