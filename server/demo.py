"""`--model demo`: the bundled checkpoint and the options it is served with."""

import os
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
REQUEST = ASSETS / "demo_request.json"

# vLLM's options for the demo models. They stand before the user's own, so that those win.
OPTIONS = (
    "--max-model-len", "4096",
    "--max-num-seqs", "64",
    # No C++ compiler needed, and seconds instead of a minute to the first answer.
    "--enforce-eager",
    "--limit-mm-per-prompt", '{"image": 8, "video": 2}',
    "--enable-auto-tool-choice",
    "--tool-call-parser", "hermes",
    # A model of this size fills JSON with blanks if it may.
    "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
)  # fmt: skip

# float32 answers as training measured it; FlashAttention takes 16 bits only. The blocks are the smallest of each
# platform's backend, so that short prompts free whole blocks too. On a CPU the KV cache would otherwise take much of
# the machine's memory; vLLM's variable VLLM_CPU_KVCACHE_SPACE, where somebody sets it, comes before the option.
CPU_OPTIONS = ("--dtype", "float32", "--block-size", "32", "--kv-cache-memory-bytes", str(1 << 30))
CUDA_OPTIONS = ("--dtype", "bfloat16", "--block-size", "16")

# Unless the environment says otherwise: threads are left to the operating system (two cores are enough), and no
# questions go to the model hub.
ENVIRONMENT = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}


def options(model: str) -> tuple[str, ...]:
    """vLLM's options for a demo model on this machine."""
    from vllm.platforms import current_platform

    platform_options = CUDA_OPTIONS if current_platform.is_cuda() else CPU_OPTIONS
    return ("--served-model-name", model, *OPTIONS, *platform_options)


def checkpoint(model: str) -> Path:
    """The folder of a bundled checkpoint."""
    return ASSETS / model


def is_demo(model: str) -> bool:
    """Whether this names a bundled checkpoint; a folder of that name in the working directory comes first."""
    return Path(model).name == model and (checkpoint(model) / "config.json").is_file() and not Path(model).is_dir()


def set_environment() -> None:
    """Defaults for vLLM's environment variables."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
