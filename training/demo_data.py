"""Write held-out questions as files: `python -m training.demo_data --seed S --count N --out DIR`.

DIR gets `media/` (PNG and MP4) and `questions.jsonl`, one row a question:
`{"media": [{"type": "image" | "video", "path": "media/..."}], "question": ..., "answer": ..., "type": ...}`.
Row i depends on the seed and i alone, and on no scene that training has seen (see `demo/streams.py`).
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from .demo.media import write_image, write_video
from .demo.streams import Example, held_out_example

QUESTIONS_FILE = "questions.jsonl"


def write_row(example: Example, index: int, out: Path) -> dict:
    """Write the media of one example under `out` and return its row."""
    (out / "media").mkdir(parents=True, exist_ok=True)
    question = example.questions[0]
    if example.scene.size.kind == "video":
        media = [{"type": "video", "path": f"media/{index:05d}.mp4"}]
        write_video(out / media[0]["path"], example.frames)
    else:
        media = [{"type": "image", "path": f"media/{index:05d}_{n + 1}.png"} for n in range(len(example.frames))]
        for item, frame in zip(media, example.frames, strict=True):
            write_image(out / item["path"], frame)
    return {"media": media, "question": question.text, "answer": question.answer, "type": question.type}


def write_dataset(seed: int, count: int, out: Path) -> Path:
    """Write rows 0 to `count` - 1 of the held-out set of `seed`; returns the path of `questions.jsonl`."""
    return write_rows(seed, range(count), out)


def write_rows(seed: int, indices: Iterable[int], out: Path) -> Path:
    """Write these rows of the held-out set of `seed`, in their order; returns the path of `questions.jsonl`."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / QUESTIONS_FILE
    with path.open("w", encoding="utf-8") as file:
        for index in indices:
            row = write_row(held_out_example(seed, index), index, out)
            file.write(json.dumps(row) + "\n")
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.demo_data", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="seed of the held-out set (default: 1)")
    parser.add_argument("--count", type=int, default=170, help="rows; sizes are taken in turn (default: 170)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f"argument --count {args.count}: must be at least 1; ask for one row or more.")
    print(f"wrote {args.count} questions to {write_dataset(args.seed, args.count, args.out)}")


if __name__ == "__main__":
    main()
