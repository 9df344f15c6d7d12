"""The bundled checkpoint answers held-out questions, asked as files through the real processor and `generate`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from training.demo.geometry import FRAMES_PER_SECOND
from training.demo.questions import TYPES_BY_KIND
from training.demo.report import accuracy_tables
from training.demo.streams import SIZES, held_out_example
from training.demo.tokenizer import build_tokenizer
from training.demo_model import DEFAULT_OUT, METRICS_FILE, measure

TARGET_ACCURACY = 0.95
NUM_QUESTIONS = 119
HELD_OUT_SEED = 7


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(DEFAULT_OUT)


@pytest.fixture(scope="module")
def metrics() -> dict:
    return json.loads((DEFAULT_OUT / METRICS_FILE).read_text(encoding="utf-8"))


def _inputs(processor, example):
    frames, is_video = example.frames, example.scene.size.kind == "video"
    media = [{"type": "video"}] if is_video else [{"type": "image"}] * len(frames)
    content = [*media, {"type": "text", "text": example.questions[0].text}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    if not is_video:
        return processor(text=[text], images=[Image.fromarray(frame) for frame in frames], return_tensors="pt")
    metadata = {
        "fps": float(FRAMES_PER_SECOND),
        "total_num_frames": len(frames),
        "frames_indices": list(range(len(frames))),
    }
    return processor(text=[text], videos=[frames], video_metadata=[metadata], return_tensors="pt")


@torch.no_grad()
def test_held_out_questions_are_answered(processor):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(DEFAULT_OUT, dtype=torch.float32).eval()
    right: dict[str, list[bool]] = {"image": [], "video": []}
    for index in range(NUM_QUESTIONS):
        example = held_out_example(HELD_OUT_SEED, index)
        inputs = _inputs(processor, example)
        output = model.generate(**inputs, max_new_tokens=8)[0, inputs["input_ids"].shape[1] :]
        answer = processor.decode(output, skip_special_tokens=True)
        media = "video" if example.scene.size.kind == "video" else "image"
        right[media].append(answer == example.questions[0].answer)
    assert np.mean(right["image"] + right["video"]) >= TARGET_ACCURACY, right


def test_the_metrics_are_those_of_the_bundled_weights(metrics):
    """A small part of the held-out set, measured again, must agree with what the file claims."""
    again = measure(DEFAULT_OUT, questions_per_size=8)
    assert again["num_parameters"] == metrics["held_out"]["num_parameters"]
    for media in ("image", "video"):
        claimed = metrics["held_out"][media]["accuracy"]
        num_questions = again[media]["num_questions"]
        three_sigma = 3 * np.sqrt(max(claimed * (1 - claimed), 0.01) / num_questions)
        assert abs(again[media]["accuracy"] - claimed) <= three_sigma


def test_the_metrics_reach_the_target_and_name_every_type_and_size(metrics):
    held_out = metrics["held_out"]
    assert len(held_out["sizes"]) == len(SIZES)
    assert metrics["training"]["train_time_s"] < 3600
    for media, kinds in (("image", ("image", "images", "chart")), ("video", ("video",))):
        types = held_out["types"][media]
        assert set(types) == {question_type for kind in kinds for question_type in TYPES_BY_KIND[kind]}
        assert sum(entry["num_questions"] for entry in types.values()) == held_out[media]["num_questions"]
        assert held_out[media]["accuracy"] >= TARGET_ACCURACY


def test_the_documentation_shows_these_metrics(metrics):
    document = (Path(__file__).parents[2] / "docs" / "demo-model.md").read_text(encoding="utf-8")
    assert accuracy_tables(metrics["held_out"]) in document


def test_the_bundle_is_what_the_code_makes(processor):
    fresh = build_tokenizer()
    assert processor.tokenizer.get_vocab() == fresh.get_vocab()
    assert processor.tokenizer.chat_template == fresh.chat_template == processor.chat_template
    assert (DEFAULT_OUT / "model.safetensors").stat().st_size < 4 * 2**20
