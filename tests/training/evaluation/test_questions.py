"""Questions for evaluation: what the demo asks, what files ask, and how media reach the engine."""

import base64
import json
from pathlib import Path

from training.data import load_questions
from training.demo.streams import held_out_example
from training.evaluation.questions import Question, demo_questions, file_questions


def test_demo_questions_are_the_held_out_ones(tmp_path):
    questions = demo_questions(5, 17, tmp_path)
    expected = [held_out_example(5, index).questions[0] for index in range(17)]
    assert [question.solution for question in questions] == [question.answer for question in expected]
    assert [question.type.partition("/")[2] for question in questions] == [question.type for question in expected]
    assert {question.kind for question in questions} == {"image", "video"}
    # The sizes have one to four pictures, or one video.
    assert [len(question.images) for question in questions[5:10]] == [2, 3, 4, 3, 4]
    assert [len(question.videos) for question in questions[-2:]] == [1, 1]
    assert questions[0].prompt[0]["content"][-1] == {"type": "text", "text": expected[0].text}


def test_media_stand_where_their_placeholders_stood(tmp_path):
    (tmp_path / "a.png").write_bytes(b"A")
    (tmp_path / "b.jpg").write_bytes(b"B")
    (tmp_path / "c").write_bytes(b"C")
    content = [{"type": "image"}, {"type": "text", "text": "or"}, {"type": "video"}, {"type": "image"}]
    question = Question(
        prompt=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}],
        images=(str(tmp_path / "a.png"), str(tmp_path / "b.jpg")),
        videos=(str(tmp_path / "c"),),
        solution="a",
        problem_type="exact",
        type="video/exact",
    )
    system, user = question.messages()
    assert system == {"role": "system", "content": "Be brief."}
    first, text, video, second = user["content"]
    assert first == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(b'A')}"}}
    assert text == {"type": "text", "text": "or"}
    assert video == {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{encoded(b'C')}"}}
    assert second["image_url"]["url"] == f"data:image/jpeg;base64,{encoded(b'B')}"
    # Asked again at another sparsity_p, the question is the same.
    assert question.messages() == [system, user]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_rows_of_files_keep_their_types(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    rows = [
        {"prompt": "?", "images": ["a.png"], "solution": "3", "problem_type": "numerical"},
        {"prompt": "?", "solution": "B", "problem_type": "multiple choice"},
    ]
    path: Path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    picture, text = file_questions(load_questions([path], answer_format="tags").rows)
    assert (picture.type, picture.kind, picture.problem_type) == ("image/numerical", "image", "numerical")
    assert (text.type, text.images, text.solution) == ("text/multiple choice", (), "<answer>B</answer>")
