"""What a model is asked: the demo's held-out set, or rows of data files."""

import base64
import json
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.rows import Row, user_message
from training.demo_data import write_dataset

DEFAULT_MIME_TYPES = {"image": "image/png", "video": "video/mp4"}


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its media on disk.

    Attributes:
        prompt: chat messages with `{"type": "image"}` and `{"type": "video"}` where media belong.
        images: paths, in order.
        videos: paths, in order.
        solution: the right answer, in `<answer>` tags where the prompt asks for them.
        problem_type: how it is scored, see `training.rewards`.
        type: what accuracy is broken down by, such as "image/shape_color".
    """

    prompt: list[dict[str, Any]]
    images: tuple[str, ...]
    videos: tuple[str, ...]
    solution: str
    problem_type: str
    type: str

    @property
    def kind(self) -> str:
        """ "video", "image" or "text"."""
        return self.type.partition("/")[0]

    def messages(self) -> list[dict[str, Any]]:
        """The chat messages as the HTTP API takes them, media as data addresses; they are read from disk here."""
        media = {"image": iter(self.images), "video": iter(self.videos)}

        def filled(part: dict[str, Any]) -> dict[str, Any]:
            kind = part.get("type")
            if kind not in media:
                return part
            return {"type": f"{kind}_url", f"{kind}_url": {"url": data_address(kind, Path(next(media[kind])))}}

        return [
            message | {"content": [filled(part) for part in message["content"]]}
            if isinstance(message["content"], list)
            else message
            for message in self.prompt
        ]


def data_address(kind: str, path: Path) -> str:
    """A file as a `data:` URL."""
    mime_type = mimetypes.guess_type(path.name)[0] or DEFAULT_MIME_TYPES[kind]
    return f"data:{mime_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def demo_questions(seed: int, count: int, folder: Path) -> list[Question]:
    """Rows 0 to `count` - 1 of the demo's held-out set, the same ones as `python -m benchmarks accuracy` asks.

    Args:
        seed: of the held-out set.
        count: how many.
        folder: where media are written; it must stay until the questions are asked.
    """
    lines = write_dataset(seed, count, folder).read_text(encoding="utf-8").splitlines()
    return [_demo_question(json.loads(line), folder) for line in lines]


def _demo_question(row: dict[str, Any], folder: Path) -> Question:
    images, videos = (
        tuple(str(folder / item["path"]) for item in row["media"] if item["type"] == kind)
        for kind in ("image", "video")
    )
    return Question(
        prompt=[user_message(len(images), len(videos), row["question"])],
        images=images,
        videos=videos,
        solution=row["answer"],
        problem_type="exact",
        type=f"{'video' if videos else 'image'}/{row['type']}",
    )


def file_questions(rows: Sequence[Row]) -> list[Question]:
    """Rows of data files, broken down by their problem type."""
    return [
        Question(
            prompt=row["prompt"],
            images=tuple(row["images"] or ()),
            videos=tuple(row["videos"] or ()),
            solution=row["solution"],
            problem_type=row["problem_type"],
            type=f"{'video' if row['videos'] else 'image' if row['images'] else 'text'}/{row['problem_type']}",
        )
        for row in rows
    ]
