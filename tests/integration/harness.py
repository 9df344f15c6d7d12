"""Drive a real vLLM engine step by step inside the test process, and look at its blocks between steps."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

# The engine core must live in this process, so that tests can look at it.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

DEMO_MODEL = Path(os.environ.get("WINNOW_TEST_MODEL", Path(__file__).parents[2] / "server" / "assets" / "demo"))

# float32, so that selections do not flip on rounding; eager, so that an engine starts in seconds.
ENGINE_OPTIONS: dict[str, Any] = {
    "model": str(DEMO_MODEL),
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "max_model_len": 2048,
    "max_num_seqs": 64,
    # 65,536 tokens of the demo model. Engines of this process stay alive, several of them.
    "kv_cache_memory_bytes": 128 << 20,
    "max_logprobs": -1,
    "seed": 0,
    "limit_mm_per_prompt": {"image": 4, "video": 1},
    "disable_log_stats": True,
}

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"


def chat(user: str) -> str:
    return f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def picture(seed: int, cells: int) -> Image.Image:
    """A noisy picture of cells x cells visual tokens with coloured squares on it."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 130, (cells * 28, cells * 28, 3), dtype=np.uint8)
    for _ in range(cells):
        row, column = rng.integers(0, cells, 2) * 28
        pixels[row : row + 28, column : column + 28] = rng.integers(0, 255, 3)
    return Image.fromarray(pixels)


def clip(seed: int, frames: int, cells: int) -> np.ndarray:
    return np.stack([np.asarray(picture(seed + frame, cells)) for frame in range(frames)])


VIDEO_METADATA = {"fps": 2.0, "frames_indices": [0, 1, 2, 3], "total_num_frames": 4, "duration": 2.0}

# One prompt of every kind of input, as vLLM takes it.
PROMPTS: dict[str, dict[str, Any]] = {
    "text": {"prompt": chat("which colour is the circle? " * 12)},
    "one-image": {"prompt": chat(IMAGE + "which colour is the circle?"), "multi_modal_data": {"image": picture(1, 12)}},
    "long": {"prompt": chat(IMAGE + "what is it?"), "multi_modal_data": {"image": picture(9, 16)}},
    "several-images": {
        "prompt": chat(IMAGE + IMAGE + "which digit is red?"),
        "multi_modal_data": {"image": [picture(2, 8), picture(3, 10)]},
    },
    "video": {
        "prompt": chat(VIDEO + "which digit comes last?"),
        "multi_modal_data": {"video": [(clip(4, 4, 8), VIDEO_METADATA)]},
    },
}


@dataclass(eq=False)
class Ask:
    """One request of a scenario.

    Attributes:
        prompt: vLLM prompt.
        sparsity_p: 1 leaves the field out.
        params: further `SamplingParams` fields.
        start_step: engine step before which it arrives.
        abort_step: engine step before which the client goes away; None for never.
    """

    prompt: dict[str, Any]
    sparsity_p: float = 1.0
    params: dict[str, Any] = field(default_factory=dict)
    start_step: int = 0
    abort_step: int | None = None

    def sampling_params(self):
        from vllm import SamplingParams

        fields = {"max_tokens": 12, "temperature": 2.0, "seed": 7, "ignore_eos": True, "logprobs": 0} | self.params
        # A trained model would fill the rest with end tokens, which compare too easily.
        fields.setdefault("min_tokens", 0 if "stop" in fields else fields["max_tokens"])
        if self.sparsity_p < 1:
            fields["extra_args"] = fields.get("extra_args", {}) | {"sparsity_p": self.sparsity_p}
        return SamplingParams(**fields)


class Engine:
    """A pruning vLLM engine in this process."""

    # An engine that is collected tears down the process groups that all engines of the process share.
    _alive: ClassVar[list["Engine"]] = []

    def __init__(self, config=None, **options: Any) -> None:
        from vllm import LLM

        from attention_backend import engine_args

        self.llm = LLM(**engine_args(config, **(ENGINE_OPTIONS | options)))
        self._ids = count()
        self._alive.append(self)

    @property
    def scheduler(self):
        return self.llm.llm_engine.engine_core.engine_core.scheduler

    @property
    def worker(self):
        return self.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker

    @property
    def num_free_blocks(self) -> int:
        return self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()

    def solo(self, ask: Ask):
        """The finished output of one request that runs alone."""
        return self.run([ask])[0]

    def run(self, asks: Sequence[Ask], after_step: Callable[["Engine", int], None] = lambda engine, step: None):
        """Run a scenario to its end.

        Returns:
            The last `RequestOutput` of every request, in order; None for aborted ones.
        """
        engine = self.llm.llm_engine
        ids = {ask: f"ask-{next(self._ids)}" for ask in asks}
        outputs = {}
        for step in count():
            for ask in asks:
                if ask.start_step == step:
                    engine.add_request(ids[ask], ask.prompt, ask.sampling_params())
                if ask.abort_step == step:
                    engine.abort_request([ids[ask]])
            for output in engine.step():
                outputs[output.request_id] = output
            after_step(self, step)
            if not engine.has_unfinished_requests() and step >= max(ask.start_step for ask in asks):
                finished = {key: output for key, output in outputs.items() if output.finished}
                return [finished.get(ids[ask]) for ask in asks]


def tokens_of(output) -> list[int]:
    return list(output.outputs[0].token_ids)


def report_of(output):
    from attention_backend import REPORT, SparsityReport

    return SparsityReport.from_dict(output.kv_transfer_params[REPORT])


def check_blocks(engine: Engine) -> None:
    """Every block is free or has exactly one owner, and none is lost."""
    manager = engine.scheduler.kv_cache_manager
    pool = manager.block_pool
    owned = [
        block.block_id
        for group in manager.coordinator.single_type_managers
        for row in group.req_to_blocks.values()
        for block in row
        if not block.is_null
    ]
    shared = len(owned) - len(set(owned))
    assert shared == 0 or pool.enable_caching, "a block has two owners"
    # Block 0 is the null block.
    assert len(set(owned)) + pool.get_num_free_blocks() == pool.num_gpu_blocks - 1, "a block is lost"


def run_script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of this folder in a process of its own."""
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name(name)), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
