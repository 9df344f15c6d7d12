"""Data for post-training: files of several formats, one row shape, media loaded when they are needed."""

from training.data.arguments import DataArguments
from training.data.dataset import Questions, load_questions
from training.data.media import MediaLimits
from training.data.records import BrokenRecord
from training.data.rows import Row

__all__ = ["BrokenRecord", "DataArguments", "MediaLimits", "Questions", "Row", "load_questions"]
