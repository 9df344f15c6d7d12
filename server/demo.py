"""`--model demo`: the bundled checkpoint and the options it is served with."""

import argparse
import os
from pathlib import Path

MODEL_NAME = "demo"
ASSETS = Path(__file__).parent / "assets"
CHECKPOINT = ASSETS / "demo"
REQUEST = ASSETS / "demo_request.json"

# vLLM's options for the demo model; those of the command line win.
OPTIONS = {
    "served_model_name": [MODEL_NAME],
    "dtype": "float32",
    "max_model_len": 4096,
    "max_num_seqs": 64,
    "limit_mm_per_prompt": {"image": 8, "video": 2},
    "enable_auto_tool_choice": True,
    "tool_call_parser": "hermes",
}

# GiB of KV cache on a CPU. vLLM's default is half of the machine's memory.
KV_CACHE_GIB = 1


def is_demo(model: str) -> bool:
    """Whether this name means the bundled checkpoint; a folder of that name in the working directory comes first."""
    return model == MODEL_NAME and not Path(model).is_dir()


def parse_for_demo(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse again with the demo model's options as defaults.

    Also limits the KV cache and keeps the model hub out, both unless the environment says otherwise.
    """
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(KV_CACHE_GIB))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser.set_defaults(**OPTIONS)
    args = parser.parse_args(argv)
    args.model = args.model_tag = str(CHECKPOINT)
    return args
