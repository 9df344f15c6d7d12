"""Questions from files: rows that know their paths, and load their media when they are asked for."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets

from training.data.formats import FORMATS, detect
from training.data.media import MediaLimits, UnreadableMedia, load_image, load_video
from training.data.records import BrokenRecord, Record, read_records
from training.data.rows import AnswerFormat, Row

logger = logging.getLogger(__name__)


class Questions(Sequence):
    """Rows whose images and videos are read at access.

    Args:
        rows: with paths.
        limits: how large media may be.
        skip_broken: whether a row whose media cannot be decoded is replaced by the next one; else it is refused.
    """

    def __init__(self, rows: Sequence[Row], limits: MediaLimits | None = None, skip_broken: bool = False):
        self.rows = rows
        self.limits = limits or MediaLimits()
        self.skip_broken = skip_broken

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The row with its media: PIL images; frames `[num_frames, height, width, 3]` and their rate in `video_fps`.

        Raises:
            BrokenRecord: media cannot be decoded.
            IndexError: there is no such row.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        for following in range(len(self)):
            row = self.rows[(index + following) % len(self)]
            try:
                return load_media(row, self.limits)
            except BrokenRecord as error:
                if not self.skip_broken:
                    raise
                logger.warning("%s The next record is taken in its place.", error)
        raise BrokenRecord(f"{row['source']}: no record has media that can be decoded. Check media_root.")

    def as_dataset(self) -> datasets.Dataset:
        """What TRL's trainer takes.

        The table holds row numbers only: as a table, chat messages would get every key that any of their parts has, and
        media would be read before they are needed.
        """
        numbers = datasets.Dataset.from_dict({"row": list(range(len(self)))})
        return numbers.with_transform(self._columns)

    def _columns(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        # A group's rollouts ask for the same row: it is loaded once.
        loaded = {number: self[number] for number in dict.fromkeys(batch["row"])}
        rows = [loaded[number] for number in batch["row"]]
        return {name: [row[name] for row in rows] for name in rows[0]}


def load_media(row: Row, limits: MediaLimits) -> dict[str, Any]:
    """A row with its media loaded.

    Raises:
        BrokenRecord: a file cannot be decoded.
    """
    try:
        images = [load_image(path, limits) for path in row["images"]] if row["images"] else None
        videos = [load_video(path, limits) for path in row["videos"]] if row["videos"] else []
    except UnreadableMedia as error:
        raise BrokenRecord(f"{row['source']}: {error}. Replace the file, or skip broken records.") from error
    return {
        **row,
        "images": images,
        "videos": [video.frames for video in videos] or None,
        "video_fps": [video.frames_per_second for video in videos] or None,
    }


def load_questions(
    files: Sequence[str | Path],
    media_root: str | Path | None = None,
    data_format: str = "auto",
    answer_format: AnswerFormat = "think",
    limits: MediaLimits | None = None,
    skip_broken: bool = False,
) -> Questions:
    """Read data files; media stay on disk.

    Args:
        files: JSON or JSONL.
        media_root: folder that the paths of media start from; by default that of each file.
        data_format: one of `formats.FORMATS`, or "auto" to tell by the fields of each record.
        answer_format: what the question asks for: "think" (thoughts, then the answer in tags), "tags" or "plain".
        limits: how large media may be.
        skip_broken: whether broken records are left out and counted; else the first one is refused.

    Raises:
        BrokenRecord: a record is broken; the message says where and why.
        ValueError: the format is unknown, or no record is left.
    """
    if data_format not in ("auto", *FORMATS):
        raise ValueError(f"data_format is {data_format!r}, but must be auto or one of {', '.join(FORMATS)}.")
    rows: list[Row] = []
    for path in map(Path, files):
        root = Path(media_root) if media_root else path.parent
        broken: list[BrokenRecord] = []
        for row in _rows(path, root, data_format, answer_format):
            if not isinstance(row, BrokenRecord):
                rows.append(row)
            elif skip_broken:
                broken.append(row)
            else:
                raise row
        if broken:
            logger.warning("%s: skipped %d broken records; the first: %s", path, len(broken), broken[0])
    if not rows:
        raise ValueError(f"data files {', '.join(map(str, files))} hold no usable record. Check them and data_format.")
    return Questions(rows, limits, skip_broken)


def _rows(path: Path, root: Path, data_format: str, answer_format: AnswerFormat) -> Iterator[Row | BrokenRecord]:
    for record in read_records(path):
        if isinstance(record, BrokenRecord):
            yield record
            continue
        try:
            yield _convert(record, root, data_format, answer_format)
        except BrokenRecord as error:
            yield error


def _convert(record: Record, root: Path, data_format: str, answer_format: AnswerFormat) -> Row:
    converter = detect(record) if data_format == "auto" else FORMATS[data_format]
    return converter(record, root, answer_format)
