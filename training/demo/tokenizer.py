"""A byte-level BPE tokenizer in Qwen's format, learned from the demo task's own sentences.

All 256 bytes are in the vocabulary: any UTF-8 text can be read and written, and any grammar (JSON) can be satisfied.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from .words import COLORS, DIGITS, QUESTIONS, SHAPES, UNASKED

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TOOL_TOKENS = ("<tool_call>", "</tool_call>")
"""Added but not special, as in Qwen2.5: they must stay visible in the decoded text for the tool parser."""

BYTE_AND_MERGE_TOKENS = 480
"""256 bytes plus merges: enough for every word of the task to be one token."""

_CHAT_SENTENCES = (
    "You are a helpful assistant.",
    "Answer in one word.",
    "Picture 1: Picture 2: Picture 3: Picture 4: ",
    'yes no {"answer": "", "name": "arguments"}',
)


def _sentences() -> list[str]:
    words = (*COLORS, *SHAPES, "yes", "no", "system", "user", "assistant", "Picture")
    filled = [
        wording.format(shape=shape, color=color, digit=digit, index=1 + number % 4)
        for wording in (*QUESTIONS.values(), *UNASKED)
        for number, (shape, color, digit) in enumerate(zip(SHAPES, COLORS, DIGITS, strict=False))
    ]
    return [*filled, *_CHAT_SENTENCES * 4, *[f"{word}. a {word}" for word in words] * 12]


def build_tokenizer() -> Qwen2Tokenizer:
    """Learn the merges and return a tokenizer with Qwen's special tokens and the demo chat template."""
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=BYTE_AND_MERGE_TOKENS,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    bpe.train_from_iterator(_sentences(), trainer)
    model = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=8192,
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TOOL_TOKENS])
    tokenizer.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")
    return tokenizer
