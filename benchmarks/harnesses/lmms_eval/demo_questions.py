"""What `winnow_demo.yaml` calls: a row of `questions.jsonl` as chat messages, and exact match of the answer."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

# lmms-eval reads the rows from here too; see `data_files` in winnow_demo.yaml.
DATA = Path("demo-data")


def doc_to_messages(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> list[dict]:
    """Media first, then the question.

    A video travels as the file itself, so that the server decodes it as it does for every other client: give the model
    argument `pass_video_url=True`, or lmms-eval sends its frames as pictures.
    """
    content = [_media_part(item["type"], DATA / item["path"]) for item in doc["media"]]
    return [{"role": "user", "content": [*content, {"type": "text", "text": doc["question"]}]}]


def _media_part(kind: str, path: Path) -> dict[str, Any]:
    if kind == "video":
        return {"type": "video", "url": "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()}
    return {"type": "image", "url": Image.open(path).convert("RGB")}


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """Pictures and paths of videos, for models of lmms-eval that do not chat."""
    return [
        str(DATA / item["path"]) if item["type"] == "video" else Image.open(DATA / item["path"]).convert("RGB")
        for item in doc["media"]
    ]


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> str:
    """The question."""
    return doc["question"]


def process_results(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float | None]:
    """Exact match of the stripped answer, over all questions and by kind; None where the kind is another one."""
    is_correct = float(results[0].strip() == doc["answer"])
    kind = "video" if any(item["type"] == "video" for item in doc["media"]) else "image"
    return {
        "exact_match": is_correct,
        **{f"exact_match_{name}": is_correct if name == kind else None for name in ("image", "video")},
    }


def mean_of_known(marks: Sequence[float | None]) -> float:
    """The mean of what is not None; NaN of nothing."""
    known = [mark for mark in marks if mark is not None]
    return sum(known) / len(known) if known else float("nan")
