"""Pictures and videos get from a row to the model as training of the demo model and serving give them."""

import pytest
import torch

from training.demo.packing import pack
from training.demo.streams import SIZES, make_example
from training.demo_task import row_of
from training.row_media import batch_fields, batch_token_types, fill_placeholders, process_prompt, prompt_key

from .grpo_harness import IMAGE, PICTURES, VIDEO, load_model, load_processor, small_rows


@pytest.fixture(scope="module")
def processor():
    return load_processor()


@pytest.mark.parametrize("size", [size for size in SIZES if size.num_visual_tokens <= 256], ids=repr)
def test_a_row_becomes_the_prompt_that_the_demo_model_was_made_with(processor, size):
    example = make_example(6, 1, 0, size, num_questions=1)
    row = row_of(example, "here")
    media = process_prompt(processor, fill_placeholders(row["prompt"], row["images"], row["videos"]), {})
    batch = pack(processor.tokenizer, [example])
    length = len(media.prompt_ids)
    assert media.prompt_ids == batch.input_ids[0, :length].tolist()
    pixels = media.fields["pixel_values_videos" if size.kind == "video" else "pixel_values"]
    torch.testing.assert_close(pixels, batch.pixel_values, rtol=0, atol=1e-6)
    grids = {name: media.fields.get(name) for name in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
    ids = torch.tensor([media.prompt_ids])
    positions, _ = load_model().model.get_rope_index(ids, media.token_types[None], **grids)
    assert torch.equal(positions, batch.position_ids[:, :, :length])


def test_placeholders_take_their_media_in_order():
    prompt = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image"}, {"type": "video"}, {"type": "image"}, {"type": "text", "text": "?"}],
        },
    ]
    system, user = fill_placeholders(prompt, ["a.png", "b.png"], ["c.mp4"], video_fps=[4.0], source="here")
    assert system["content"] == [{"type": "text", "text": "Be brief."}]
    assert user["content"] == [
        {"type": "image", "image": "a.png"},
        {"type": "video", "video": "c.mp4", "fps": 4.0},
        {"type": "image", "image": "b.png"},
        {"type": "text", "text": "?"},
    ]
    assert prompt[1]["content"][0] == {"type": "image"}, "the row itself must stay as it is"


@pytest.mark.parametrize(
    ("images", "message"), [([], "more image placeholders"), (["a", "b"], r"no placeholder for 1 image\(s\)")]
)
def test_media_that_do_not_fit_the_placeholders_are_refused(images, message):
    prompt = [{"role": "user", "content": [{"type": "image"}]}]
    with pytest.raises(ValueError, match=message):
        fill_placeholders(prompt, images, None)


def test_rows_of_a_group_share_a_key_and_others_do_not():
    rows = small_rows([IMAGE, IMAGE, VIDEO])
    keys = [
        prompt_key(fill_placeholders(row["prompt"], row["images"], row["videos"]))
        for row in (rows[index] for index in (0, 0, 1, 2, 2))
    ]
    assert keys[0] == keys[1]
    assert keys[3] == keys[4]
    assert len(set(keys)) == 3


def test_fields_of_a_batch_stand_in_the_order_of_its_rows(processor):
    rows = small_rows([PICTURES, VIDEO, IMAGE])
    media = [
        process_prompt(processor, fill_placeholders(row["prompt"], row["images"], row["videos"]), {})
        for row in (rows[index] for index in range(3))
    ]
    fields = batch_fields(media, torch.device("cpu"))
    assert fields["image_grid_thw"].tolist() == [[1, 16, 16]] * 3
    assert fields["video_grid_thw"].tolist() == [[2, 16, 16]]
    assert fields["second_per_grid_ts"].tolist() == [1.0]
    assert torch.equal(fields["pixel_values"], torch.cat([media[n].fields["pixel_values"] for n in (0, 2)]))
    width = max(len(row.prompt_ids) for row in media) + 1
    types = batch_token_types(media, width, width + 2, torch.device("cpu"))
    assert types.sum(dim=1).tolist() == [128, 2 * 128, 64]
    assert types[:, width:].sum() == 0
    assert types[2, width - len(media[2].prompt_ids) : width].tolist() == media[2].token_types.tolist()


@pytest.mark.parametrize(("video_fps", "seconds"), [(None, 1.0), ([4.0], 0.5)])
def test_a_video_has_the_time_steps_of_its_own_rate(processor, video_fps, seconds):
    row = {**small_rows([VIDEO])[0], "video_fps": video_fps}
    media = process_prompt(processor, fill_placeholders(**row), {})
    assert media.fields["second_per_grid_ts"].tolist() == [seconds]
