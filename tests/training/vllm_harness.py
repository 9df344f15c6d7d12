"""Trainers whose rollouts run on a real vLLM engine in this process."""

import os
from pathlib import Path

from training.trainer import SparsityForcingTrainer

from .grpo_harness import make_trainer

# Made to agree with the trainer's float32 to rounding.
ENGINE_ARGS = {"dtype": "float32", "enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 128 << 20}

# An engine that is collected tears down the process groups that all engines of the process share.
_alive: list[SparsityForcingTrainer] = []


def make_vllm_trainer(folder: Path, sizes, sparsity: dict, **config) -> SparsityForcingTrainer:
    """`make_trainer` with `use_vllm`. What TRL and vLLM set in the environment does not stay for other tests."""
    environment = dict(os.environ)
    try:
        trainer = make_trainer(
            folder,
            sizes,
            sparsity={"vllm_engine_args": ENGINE_ARGS, **sparsity},
            **{"use_vllm": True, "vllm_max_model_length": 1024, **config},
        )
    finally:
        os.environ.clear()
        os.environ.update(environment)
    _alive.append(trainer)
    return trainer


def new_rollouts(trainer: SparsityForcingTrainer, rows: list[dict]) -> dict:
    """A generation batch as `_compute_loss` gets it, whatever was generated before; weights are synchronised."""
    trainer._last_loaded_step, trainer._step, trainer._buffered_inputs = -1, 0, None
    return trainer._prepare_inputs(rows)
