"""Options for training on data files."""

from dataclasses import dataclass, field
from typing import get_args

from training.data.dataset import Questions, load_questions
from training.data.formats import FORMATS
from training.data.media import MediaLimits
from training.data.rows import AnswerFormat
from training.rewards import accuracy_reward
from training.rewards.functions import Reward
from training.rewards.scores import GRADINGS

_CHOICES = {
    "dataset_format": ("auto", *FORMATS),
    "answer_format": get_args(AnswerFormat),
    "grading": GRADINGS,
}


@dataclass
class DataArguments:
    """How data files are read, and how answers are graded. Raises `ValueError` for values out of range."""

    dataset_format: str = field(
        default="auto", metadata={"help": "'video_r1', 'vlm_r1' or 'plain'; 'auto' tells by the fields of each record."}
    )
    eval_dataset: str | None = field(default=None, metadata={"help": "Data file of held-out questions."})
    media_root: str | None = field(
        default=None, metadata={"help": "Folder that paths of media start from; default: that of the data file."}
    )
    answer_format: str = field(
        default="think",
        metadata={"help": "What questions ask for: 'think' (thoughts, then the answer in tags), 'tags' or 'plain'."},
    )
    grading: str = field(
        default="binary",
        metadata={"help": "'binary' (right or wrong, as in the papers) or 'graded' (parts of an answer count)."},
    )
    skip_broken_records: bool = field(
        default=False, metadata={"help": "Leave broken records out and say how many, instead of refusing the first."}
    )
    max_pixels: int | None = field(default=None, metadata={"help": "Larger images are shrunk to this area."})
    max_frame_pixels: int | None = field(default=None, metadata={"help": "Larger video frames are shrunk to this."})
    max_frames: int = field(default=16, metadata={"help": "Most frames of a video."})
    frames_per_second: float = field(default=2.0, metadata={"help": "Frames taken from each second of a video."})

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(choices)}. Choose one of these."
                )
        self.media_limits()

    def media_limits(self) -> MediaLimits:
        """How large media may be."""
        return MediaLimits(self.max_pixels, self.max_frame_pixels, self.max_frames, self.frames_per_second)

    def questions(self, file: str) -> Questions:
        """The questions of a data file."""
        return load_questions(
            [file],
            self.media_root,
            self.dataset_format,
            self.answer_format,
            self.media_limits(),
            self.skip_broken_records,
        )

    def accuracy_reward(self) -> Reward:
        """The reward for right answers."""
        return accuracy_reward(self.grading)
