"""Long questions of the demo generator, which any vision-language model can be asked."""

from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.errors import BenchmarkError
from benchmarks.questions import Question, load
from training.demo.streams import SIZES
from training.demo_data import write_rows


def long_questions(seed: int, num_questions: int, min_visual_tokens: int) -> list[Question]:
    """Held-out questions about pictures and videos, all sizes from `min_visual_tokens` on in turn.

    Args:
        seed: of the held-out set.
        num_questions: how many.
        min_visual_tokens: smallest size, in visual tokens of 28 x 28 pixels and, in videos, two frames.

    Raises:
        BenchmarkError: no size is that large.
    """
    sizes = [size.num_visual_tokens for size in SIZES]
    if max(sizes) < min_visual_tokens:
        raise BenchmarkError(
            f"--min-visual-tokens is {min_visual_tokens}, but the largest questions have {max(sizes)}. Ask for fewer."
        )
    is_long = (index for index in count() if sizes[index % len(sizes)] >= min_visual_tokens)
    with TemporaryDirectory() as name:
        return load(write_rows(seed, islice(is_long, num_questions), Path(name)).parent)
