"""What each row asks of vLLM, without an engine."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from training.rollout_requests import RolloutRequest, rollout_requests, with_frames
from training.row_media import process_prompt

from .grpo_harness import load_processor

IMAGE_TOKEN, VIDEO_TOKEN = 7, 8


def request(**fields) -> RolloutRequest:
    return RolloutRequest(
        **{"sparsity_p": 0.9, "is_greedy": False, "media": {}, "placeholders": (IMAGE_TOKEN, VIDEO_TOKEN), **fields}
    )


@pytest.mark.parametrize(
    ("token_ids", "short"),
    [
        ([1, 7, 7, 7, 2, 7, 7, 3], [1, 7, 2, 7, 3]),
        ([1, 8, 8, 2, 7, 7], [1, 8, 2, 7]),
        ([5, 5, 5, 1, 1], [5, 5, 5, 1, 1]),
    ],
    ids=["two pictures", "video and picture", "repeated words stay"],
)
def test_vllm_gets_one_placeholder_for_each_picture(token_ids, short):
    assert request().prompt(token_ids)["prompt_token_ids"] == short


def test_a_row_has_parameters_of_its_own():
    common = SimpleNamespace(extra_args={"other": 1}, temperature=1.0, top_p=0.9, top_k=5, min_p=0.1)
    sampled, greedy = request().sampling_params(common), request(is_greedy=True, sparsity_p=0.5).sampling_params(common)
    assert sampled.extra_args == {"other": 1, "sparsity_p": 0.9, "winnow_return_kept": True}
    assert sampled.temperature == 1.0
    assert greedy.extra_args["sparsity_p"] == 0.5
    assert (greedy.temperature, greedy.top_p, greedy.top_k, greedy.min_p) == (0.0, 1.0, 0, 0.0)
    assert common.extra_args == {"other": 1}


def message(*parts) -> list[dict]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "what is it?"}]}]


@pytest.fixture(scope="module")
def processor():
    return load_processor()


def test_a_video_file_is_opened_once_and_seen_alike_by_vllm_and_training(processor, monkeypatch):
    """Six of twelve frames, taken at 4 frames a second: 2 a second, so half a second of two frames is one grid step."""
    frames = np.random.default_rng(0).integers(0, 255, (6, 56, 56, 3), dtype=np.uint8)
    opened = []

    def fetch(path, sample_indices_fn):
        opened.append(path)
        return frames, SimpleNamespace(sampled_fps=2.0)

    monkeypatch.setattr(processor.video_processor, "fetch_videos", fetch)
    prompts = [message({"type": "video", "video": "clip.mp4", "fps": None})] * 3
    prompts = with_frames(processor, prompts)
    assert opened == ["clip.mp4"]
    assert prompts[0] is prompts[1] is prompts[2]

    row = process_prompt(processor, prompts[0], {})
    assert row.fields["second_per_grid_ts"].tolist() == [1.0]
    requests = rollout_requests(processor, prompts, [0.5, 0.6, 0.7], is_greedy=False)
    ((seen, metadata),) = requests[0].media["video"]
    assert np.array_equal(seen, frames)
    assert (metadata["fps"], metadata["frames_indices"], metadata["duration"]) == (2.0, [0, 1, 2, 3, 4, 5], 3.0)
    assert [request.sparsity_p for request in requests] == [0.5, 0.6, 0.7]


def test_pictures_go_to_vllm_in_order_and_once_for_a_group(processor):
    red, blue = (Image.new("RGB", (56, 56), color) for color in ("red", "blue"))
    prompt = message({"type": "image", "image": red}, {"type": "image", "image": blue})
    first, second = rollout_requests(processor, with_frames(processor, [prompt, prompt]), [0.5, 1.0], is_greedy=True)
    assert [image.getpixel((0, 0)) for image in first.media["image"]] == [(255, 0, 0), (0, 0, 255)]
    assert first.media is second.media
    assert set(first.placeholders) == {processor.image_token_id, processor.video_token_id}


def test_a_text_prompt_has_no_media(processor):
    (only,) = rollout_requests(processor, [message()], [0.5], is_greedy=False)
    assert only.prompt([1, 2, 2]) == {"prompt_token_ids": [1, 2, 2]}
