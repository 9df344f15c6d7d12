"""The demo's questions as a task of lmms-eval and as a TSV of VLMEvalKit."""

import base64
import csv
import json
import math
from ast import literal_eval
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.harnesses.lmms_eval import demo_questions
from benchmarks.harnesses.vlmevalkit.demo import main, score, write_tsv
from training.demo_data import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The working directory of a harness: one question of each of the first 17 sizes in `demo-data`."""
    folder = tmp_path_factory.mktemp("work")
    write_dataset(5, 17, folder / "demo-data")
    return folder


def rows_of(data: Path) -> list[dict]:
    return [json.loads(line) for line in (data / "demo-data" / "questions.jsonl").read_text().splitlines()]


def test_messages_hold_the_media_in_order_and_then_the_question(data, monkeypatch):
    monkeypatch.chdir(data)
    for row in rows_of(data):
        (message,) = demo_questions.doc_to_messages(row)
        *media, question = message["content"]
        assert question == {"type": "text", "text": row["question"]}
        assert [part["type"] for part in media] == [item["type"] for item in row["media"]]
        for part, item in zip(media, row["media"], strict=True):
            if item["type"] == "video":
                sent = base64.b64decode(part["url"].removeprefix("data:video/mp4;base64,"))
                assert sent == (data / "demo-data" / item["path"]).read_bytes()


def test_exact_match_counts_for_its_kind_only():
    doc = {"answer": "red", "media": [{"type": "video", "path": "x.mp4"}]}
    assert demo_questions.process_results(doc, [" red\n"]) == {
        "exact_match": 1.0, "exact_match_image": None, "exact_match_video": 1.0,
    }  # fmt: skip
    assert demo_questions.process_results(doc, ["Red"])["exact_match"] == 0.0


def test_the_mean_leaves_out_other_kinds():
    assert demo_questions.mean_of_known([1.0, None, 0.0, None]) == 0.5
    assert math.isnan(demo_questions.mean_of_known([None]))


def test_the_tsv_holds_the_picture_questions_with_paths_that_exist(data, tmp_path):
    path = tmp_path / "LMUData" / "winnow_demo.tsv"
    pictures = [row for row in rows_of(data) if row["media"][0]["type"] == "image"]
    assert write_tsv(data / "demo-data", path) == len(pictures) < 17
    with path.open(newline="") as file:
        written = list(csv.DictReader(file, delimiter="\t"))
    for row, line in zip(pictures, written, strict=True):
        assert (line["question"], line["answer"], line["category"]) == (row["question"], row["answer"], row["type"])
        paths = literal_eval(line["image_path"]) if line["image_path"].startswith("[") else [line["image_path"]]
        assert [Path(found).name for found in paths] == [Path(item["path"]).name for item in row["media"]]
        assert all(Path(found).is_file() for found in paths)


def test_score_by_category(tmp_path):
    path = tmp_path / "predictions.tsv"
    lines = ["index\tanswer\tcategory\tprediction", "0\tred\ta\t red ", "1\tred\ta\tblue", "2\t7\tb\t7"]
    path.write_text("\n".join(lines) + "\n")
    assert score(path) == {"a": 0.5, "all": pytest.approx(2 / 3), "b": 1.0}


def test_a_file_without_predictions_is_refused(tmp_path):
    path = tmp_path / "questions.tsv"
    path.write_text("index\tanswer\tcategory\n0\tred\ta\n")
    with pytest.raises(BenchmarkError, match=r"has no column prediction.*PRED_FORMAT=tsv"):
        score(path)


def test_questions_that_are_not_there_are_one_line(tmp_path):
    with pytest.raises(BenchmarkError, match=r"questions.jsonl is missing.*training.demo_data"):
        main(["write", str(tmp_path), str(tmp_path / "out.tsv")])
    assert not (tmp_path / "out.tsv").exists()
