"""What a client sends as a file reaches the model as exactly the tokens, grid and patches that training makes."""

import numpy as np
import pytest
import torch
from PIL import Image
from vllm.multimodal.video import VIDEO_LOADER_REGISTRY

from training.demo.architecture import build_model, build_processor
from training.demo.forward import packed_forward
from training.demo.packing import pack
from training.demo.streams import SIZES, make_example
from training.demo.tokenizer import build_tokenizer
from training.demo_data import write_row

VLLM_DEFAULT_FRAMES = 32


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def processor(tokenizer):
    return build_processor(tokenizer)


@pytest.fixture(scope="module")
def model(tokenizer):
    return build_model(tokenizer, seed=0).eval()


def _processed(processor, example, folder):
    """Write the example's files and send them through the real processor, as vLLM's loaders read them."""
    row = write_row(example, 0, folder)
    content = [{"type": item["type"]} for item in row["media"]] + [{"type": "text", "text": row["question"]}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    if row["media"][0]["type"] == "image":
        images = [Image.open(folder / item["path"]) for item in row["media"]]
        return processor(text=[text], images=images, return_tensors="pt")
    loader = VIDEO_LOADER_REGISTRY.load("opencv")
    data = (folder / row["media"][0]["path"]).read_bytes()
    frames, metadata = loader.load_bytes(data, num_frames=VLLM_DEFAULT_FRAMES)
    metadata.pop("do_sample_frames")
    return processor(text=[text], videos=[np.asarray(frames)], video_metadata=[metadata], return_tensors="pt")


@pytest.mark.parametrize("size", SIZES, ids=repr)
def test_a_written_file_becomes_the_training_input(size, tokenizer, processor, model, tmp_path):
    example = make_example(6, 1, 0, size, num_questions=1)
    inputs = _processed(processor, example, tmp_path)
    batch = pack(tokenizer, [example])
    prompt_length = inputs["input_ids"].shape[1]
    is_video = size.kind == "video"

    assert inputs["input_ids"][0].tolist() == batch.input_ids[0, :prompt_length].tolist()
    grid = inputs["video_grid_thw" if is_video else "image_grid_thw"]
    assert grid.tolist() == [[size.num_steps, 2 * size.grid, 2 * size.grid]] * size.num_pictures
    pixels = inputs["pixel_values_videos" if is_video else "pixel_values"]
    torch.testing.assert_close(pixels, batch.pixel_values, rtol=0, atol=1e-6)
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"],
        inputs["mm_token_type_ids"],
        image_grid_thw=inputs.get("image_grid_thw"),
        video_grid_thw=inputs.get("video_grid_thw"),
        second_per_grid_ts=inputs.get("second_per_grid_ts"),
    )
    assert torch.equal(positions, batch.position_ids[:, :, :prompt_length])


@pytest.mark.parametrize("size", [s for s in SIZES if s.num_visual_tokens <= 256], ids=repr)
@torch.no_grad()
def test_packed_questions_get_the_logits_of_separate_prompts(size, tokenizer, processor, model, tmp_path):
    example = make_example(6, 1, 1, size, num_questions=4)
    batch = pack(
        tokenizer, [example, make_example(6, 1, 2, size, num_questions=4)], ["You are a helpful assistant.", None]
    )
    packed = packed_forward(model, batch).logits
    second = make_example(6, 1, 2, size, num_questions=4)
    alone = model(**_processed(processor, second, tmp_path)).logits[0, -1]
    first_target = int((batch.question_index == 4).nonzero()[0])
    torch.testing.assert_close(packed[first_target], alone, rtol=0, atol=1e-5)
