"""Greedy answers of the bundled demo model, to compare engines by."""

import json
from pathlib import Path
from typing import Any

from attention_backend.request import REPORT, SPARSITY_P

ASSETS = Path(__file__).parents[2] / "server" / "assets"
DEMO_MODEL = ASSETS / "demo"
MAX_TOKENS = 32
TEXT_PROMPTS = (
    "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\n" + "What color is the circle? " * 40 + "<|im_end|>\n<|im_start|>assistant\n",
)


def answers(llm: Any, point: dict[str, Any]) -> dict[str, Any]:
    """Ask about the bundled picture, and two text prompts in one batch.

    Args:
        llm: a `vllm.LLM` that serves the demo model.
        point: `sparsity_p` of every request.
    """
    from vllm import SamplingParams

    sparsity_p = point["sparsity_p"]
    extra_args = {SPARSITY_P: sparsity_p} if sparsity_p < 1.0 else None
    # A question ends where the model ends it; plain text goes on, so that there is something to compare.
    params, endless = (
        SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0, extra_args=extra_args, ignore_eos=ignore_eos)
        for ignore_eos in (False, True)
    )
    messages = json.loads((ASSETS / "demo_request.json").read_text(encoding="utf-8"))["messages"]
    outputs = llm.chat(messages, params, use_tqdm=False)
    outputs += llm.generate(list(TEXT_PROMPTS), endless, use_tqdm=False)
    # Stock vLLM reports nothing.
    reports = [(output.kv_transfer_params or {}).get(REPORT) for output in outputs]
    return {
        "text": outputs[0].outputs[0].text.strip(),
        "token_ids": [list(output.outputs[0].token_ids) for output in outputs],
        "token_ratios": [report and report["token_ratio"] for report in reports],
    }
