"""The data formats: how a record becomes a row.

video_r1: Video-R1-260k, a JSON list (or JSONL) with `problem`, `problem_type`, `options`, `path`, `data_type` and a
    `solution` in `<answer>` tags.
vlm_r1: VLM-R1, JSONL with `image` (a path or a list), `conversations` of one question and one answer, and optionally
    `accu_reward_method` or our `problem_type`.
plain: JSONL with `prompt` (a text or chat messages), `images` and / or `videos`, `solution` and `problem_type`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from training.data.records import BrokenRecord, Record
from training.data.rows import AnswerFormat, Row, ask, field, media_paths, tag, user_message
from training.rewards.answers import choice_letter, number, tagged_answer
from training.rewards.scores import PROBLEM_TYPES

Converter = Callable[[Record, Path, AnswerFormat], Row]


def _problem_type(record: Record) -> str:
    problem_type = field(record, "problem_type", str, f"one of {', '.join(PROBLEM_TYPES)}")
    if problem_type not in PROBLEM_TYPES:
        raise BrokenRecord(
            f"{record.source}: problem_type is {problem_type!r}, but must be one of {', '.join(PROBLEM_TYPES)}. "
            "Correct the record."
        )
    return problem_type


def video_r1(record: Record, root: Path, answer_format: AnswerFormat) -> Row:
    """A record of Video-R1-260k."""
    problem_type = _problem_type(record)
    question = field(record, "problem", str, "a text")
    if problem_type == "multiple choice":
        options = field(record, "options", list, "a list of texts, since this is multiple choice")
        question = "\n".join([question, "Options:", *map(str, options)])
    solution = field(record, "solution", str, "a text in <answer> tags")
    answer = tagged_answer(solution)
    if not answer:
        raise BrokenRecord(
            f"{record.source}: solution is {solution!r}, but must be in <answer> tags. Correct the record."
        )
    kind = field(record, "data_type", str, "image or video")
    if kind not in ("image", "video"):
        raise BrokenRecord(f"{record.source}: data_type is {kind!r}, but must be image or video. Correct the record.")
    field(record, "path", str, "the path of an image or a video")
    paths = media_paths(record, "path", root)
    text = ask(question, problem_type, answer_format)
    return Row(
        prompt=[user_message(int(kind == "image"), int(kind == "video"), text)],
        images=paths if kind == "image" else None,
        videos=paths if kind == "video" else None,
        solution=tag(answer, answer_format),
        problem_type=problem_type,
        source=record.source,
    )


# VLM-R1's name of a reward -> problem type. Its rewards for boxes have no counterpart here.
_REWARD_METHODS = {"default": None, "mcq": "multiple choice", "yes_no": "multiple choice", "math": "numerical"}


def vlm_r1(record: Record, root: Path, answer_format: AnswerFormat) -> Row:
    """A record of VLM-R1's JSONL."""
    turns = field(record, "conversations", list, "a list of one question and one answer")
    values = [turn.get("value") if isinstance(turn, dict) else None for turn in turns]
    if len(values) != 2 or not isinstance(values[0], str) or values[1] in (None, ""):
        raise BrokenRecord(
            f"{record.source}: conversations is {turns!r}, but must be one question and one answer, each with a value. "
            "Correct the record."
        )
    images = media_paths(record, "image", root)
    question, answer = values[0].replace("<image>", "").strip(), re.sub(r"</?answer>", "", str(values[1])).strip()
    problem_type = _vlm_r1_problem_type(record, answer)
    return Row(
        prompt=[user_message(len(images or ()), 0, ask(question, problem_type, answer_format))],
        images=images,
        videos=None,
        solution=tag(answer, answer_format),
        problem_type=problem_type,
        source=record.source,
    )


def _vlm_r1_problem_type(record: Record, answer: str) -> str:
    """As the record says; else by what the answer looks like: a number, an option's letter, or free text."""
    if "problem_type" in record.fields:
        return _problem_type(record)
    method = record.fields.get("accu_reward_method", "default")
    if method not in _REWARD_METHODS:
        raise BrokenRecord(
            f"{record.source}: accu_reward_method is {method!r}, but must be one of {', '.join(_REWARD_METHODS)}. "
            f"Give the record a problem_type of its own, one of {', '.join(PROBLEM_TYPES)}."
        )
    if named := _REWARD_METHODS[method]:
        return named
    if number(answer) is not None and re.fullmatch(r"[-+\d.,/eE]+", answer):
        return "numerical"
    return "multiple choice" if choice_letter(answer) else "free-form"


def plain(record: Record, root: Path, answer_format: AnswerFormat) -> Row:
    """A record with the row's own fields; the solution stays as it is written, and chat messages too."""
    images, videos = media_paths(record, "images", root), media_paths(record, "videos", root)
    prompt = field(record, "prompt", (str, list), "a text or a list of chat messages")
    problem_type = _problem_type(record)
    solution = field(record, "solution", (str, int, float), "a text or a number")
    if isinstance(prompt, str):
        text = ask(prompt, problem_type, answer_format)
        return Row(
            prompt=[user_message(len(images or ()), len(videos or ()), text)],
            images=images,
            videos=videos,
            solution=tag(tagged_answer(str(solution)) or str(solution), answer_format),
            problem_type=problem_type,
            source=record.source,
        )
    _check_placeholders(record, prompt, {"image": len(images or ()), "video": len(videos or ())})
    return Row(
        prompt=prompt,
        images=images,
        videos=videos,
        solution=str(solution),
        problem_type=problem_type,
        source=record.source,
    )


def _check_placeholders(record: Record, messages: list, num_files: dict[str, int]) -> None:
    if not all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages):
        raise BrokenRecord(f"{record.source}: prompt holds a message without role or content. Correct the record.")
    contents = [message["content"] for message in messages if isinstance(message["content"], list)]
    for kind, count in num_files.items():
        found = sum(part.get("type") == kind for content in contents for part in content)
        if found != count:
            raise BrokenRecord(
                f'{record.source}: the prompt holds {found} {{"type": "{kind}"}} parts, but {kind}s has {count} files. '
                "Give one part for each file."
            )


FORMATS: dict[str, Converter] = {"video_r1": video_r1, "vlm_r1": vlm_r1, "plain": plain}


def detect(record: Record) -> Converter:
    """The format that a record has the fields of.

    Raises:
        BrokenRecord: it has those of none.
    """
    for needed, converter in (("conversations", vlm_r1), ("problem", video_r1), ("prompt", plain)):
        if needed in record.fields:
            return converter
    raise BrokenRecord(
        f"{record.source}: the record has the fields {', '.join(record.fields)}, but a known format has conversations "
        "(VLM-R1), problem (Video-R1) or prompt (plain). Convert the file to one of these."
    )
