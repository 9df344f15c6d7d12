"""The one shape that every data format is brought to."""

from pathlib import Path
from typing import Any, Literal, TypedDict

from training.data.records import BrokenRecord, Record

AnswerFormat = Literal["think", "tags", "plain"]


class Row(TypedDict):
    """One question.

    Attributes:
        prompt: chat messages; media stand in the user's content as `{"type": "image"}` or `{"type": "video"}`, in the
            order of `images` and `videos`, followed by the text.
        images: paths (or, once loaded, PIL images); None where the prompt has none.
        videos: paths (or, once loaded, `media.Video`s); None where the prompt has none.
        solution: the right answer; in `<answer>` tags where the prompt asks for them.
        problem_type: see `training.rewards`.
        source: file and line of the record.
    """

    prompt: list[dict[str, Any]]
    images: list[Any] | None
    videos: list[Any] | None
    solution: str
    problem_type: str
    source: str


# What is added to a question so that its answer can be read. `think` is how Video-R1 and VLM-R1 ask, in our words.
_ASK = {
    "think": (
        "First think about the question and write your thoughts between <think> and </think>. "
        "Then write {answer} between <answer> and </answer>."
    ),
    "tags": "Write {answer} between <answer> and </answer>.",
}
_ANSWER = {
    "multiple choice": "only the letter of the right option",
    "numerical": "the number",
    "regression": "the number",
    "OCR": "the text that you read",
}


def ask(question: str, problem_type: str, answer_format: AnswerFormat) -> str:
    """The question with the instruction of how to answer."""
    if answer_format == "plain":
        return question
    return f"{question}\n{_ASK[answer_format].format(answer=_ANSWER.get(problem_type, 'the answer'))}"


def tag(solution: str, answer_format: AnswerFormat) -> str:
    """The solution in tags, where the prompt asks for tags."""
    return solution if answer_format == "plain" else f"<answer>{solution}</answer>"


def user_message(num_images: int, num_videos: int, text: str) -> dict[str, Any]:
    """A message whose media come before its text."""
    images, videos = [{"type": "image"}] * num_images, [{"type": "video"}] * num_videos
    return {"role": "user", "content": [*map(dict, images), *map(dict, videos), {"type": "text", "text": text}]}


def field(record: Record, name: str, kinds: type | tuple[type, ...], needed: str) -> Any:
    """A field of the record.

    Raises:
        BrokenRecord: it is missing or of another kind.
    """
    value = record.fields.get(name)
    if isinstance(value, bool) or not isinstance(value, kinds) or value == "":
        has = f"is {value!r}" if name in record.fields else "is missing"
        raise BrokenRecord(f"{record.source}: {name} {has}, but must be {needed}. Correct the record.")
    return value


def media_paths(record: Record, name: str, root: Path) -> list[str] | None:
    """The paths of a field that holds a path or a list of paths; None where it is absent or empty.

    Raises:
        BrokenRecord: it is something else, or a file is not there.
    """
    if not record.fields.get(name):
        return None
    value = field(record, name, (str, list), "a path or a list of paths")
    names = [value] if isinstance(value, str) else value
    if not all(isinstance(item, str) for item in names):
        raise BrokenRecord(f"{record.source}: {name} is {value!r}, but must be a path or a list of paths. Correct it.")
    paths = [root / item for item in names]
    for path in paths:
        if not path.is_file():
            raise BrokenRecord(
                f"{record.source}: {name} names {path}, but there is no such file. Put it there, or set media_root to "
                "the folder that the paths start from."
            )
    return [str(path) for path in paths]
