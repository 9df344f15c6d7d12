"""Files of every format, with real media."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.demo.media import write_image, write_video


@pytest.fixture
def media(tmp_path) -> Path:
    """A folder with pictures of one colour, a video whose frame i has the value 10 i, and a file that is neither."""
    folder = tmp_path / "media"
    folder.mkdir()
    for name, color in (("red.png", (200, 0, 0)), ("blue.png", (0, 0, 200))):
        write_image(folder / name, np.full((60, 80, 3), color, dtype=np.uint8))
    frames = np.arange(20, dtype=np.uint8)[:, None, None, None] * 10
    write_video(folder / "clip.mp4", np.broadcast_to(frames, (20, 64, 64, 3)).copy())
    (folder / "broken.png").write_text("no picture")
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture
def jsonl(tmp_path) -> Callable[..., Path]:
    """Writes a JSONL file from records and raw lines."""

    def write(*records: dict | str) -> Path:
        path = tmp_path / "data.jsonl"
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
