"""The tokenizer reads and writes any text; the chat template is Qwen2.5-VL's, with media first."""

import json
import unicodedata

import pytest

from training.demo.tokenizer import SPECIAL_TOKENS, TOOL_TOKENS, build_tokenizer
from training.demo.words import COLORS, SHAPES

IMAGE = {"type": "image_url", "image_url": {"url": "x"}}
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def _render(tokenizer, messages, **kwargs) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **kwargs)


@pytest.mark.parametrize(
    "text", ["", "What color?", 'Grüße, 世界! 🙂\n\t{"a": [1.5e-3, null]}', "".join(map(chr, range(1, 300)))]
)
def test_any_text_survives_the_round_trip(tokenizer, text):
    normal = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(tokenizer.encode(text)) == normal


def test_every_byte_is_a_token(tokenizer):
    bytes_of_one_character = {token for token in tokenizer.get_vocab() if len(token) == 1}
    assert len(bytes_of_one_character) == 256


@pytest.mark.parametrize("word", [*COLORS, *SHAPES, "yes", "no", *SPECIAL_TOKENS, *TOOL_TOKENS])
def test_answers_and_special_tokens_are_one_token(tokenizer, word):
    assert len(tokenizer.encode(word)) == 1


def test_tool_calls_stay_visible_when_special_tokens_are_skipped(tokenizer):
    ids = tokenizer.encode("<tool_call>{}</tool_call><|im_end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<tool_call>{}</tool_call>"


def test_plain_text(tokenizer):
    prompt = _render(tokenizer, [{"role": "user", "content": "hello"}])
    assert prompt == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_media_come_first_and_one_picture_has_no_number(tokenizer):
    content = [{"type": "text", "text": "What?"}, IMAGE]
    prompt = _render(tokenizer, [{"role": "system", "content": "Be short."}, {"role": "user", "content": content}])
    assert prompt == (
        f"<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\n{VISION}What?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_several_pictures_are_numbered(tokenizer):
    prompt = _render(tokenizer, [{"role": "user", "content": [IMAGE, IMAGE, {"type": "text", "text": "What?"}]}])
    assert f"user\nPicture 1: {VISION}Picture 2: {VISION}What?<|im_end|>" in prompt


def test_tools_and_their_calls_read_as_in_qwen(tokenizer):
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": 1}}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "seen"},
    ]
    prompt = _render(tokenizer, messages, tools=TOOLS)
    listed = prompt.split("<tools>\n")[1].split("\n</tools>")[0]
    assert json.loads(listed) == TOOLS[0]
    written = prompt.split("<|im_start|>assistant\n<tool_call>\n")[1].split("\n</tool_call>")[0]
    assert json.loads(written) == {"name": "look", "arguments": {"at": 1}}
    assert "<|im_start|>user\n<tool_response>\nseen\n</tool_response><|im_end|>\n" in prompt
